#include "plain.h"

int read_cell(cursor *c, cell *out) {
    const char *begin = c->at;
    int64_t start;
    out->text = begin;
    out->number = 0;
    out->length = 0;
    switch (*begin) {
    case 'n': out->kind = NOTHING; return literal(c, "null");
    case 't': out->kind = TRUTH; return out->number = literal(c, "true");
    case 'f': out->kind = TRUTH; return literal(c, "false");
    case '"':
        if (string(c, &start, &out->length)) {
            out->kind = TEXT;
            out->text = c->text + start;
            return 1;
        }
        break;
    case '[':
    case '{': break;
    default:
        if (whole(c, &out->number)) {
            out->kind = WHOLE;
            return 1;
        }
    }
    c->at = begin;
    out->kind = OTHER;
    return passed(c, 0);
}

/* Members come in the order of their table as a rule, so each is looked for behind the one before. */
static int find(const member *members, int count, const char *name, uint32_t length, int behind) {
    for (int tried = 0, i = behind; tried < count; tried++) {
        i = i + 1 < count ? i + 1 : 0;
        if (!strncmp(members[i].name, name, length) && !members[i].name[length]) return i;
    }
    return -1;
}

int read_object(cursor *c, const member *members, int count, cell *cells) {
    int64_t start;
    uint32_t length;
    int at = count - 1;
    memset(cells, 0, (size_t)count * sizeof *cells);
    space(c);
    if (*c->at++ != '{') return 0;
    do {
        space(c);
        if (!string(c, &start, &length)) return 0;
        at = find(members, count, c->text + start, length, at);
        if (at < 0 || cells[at].kind != ABSENT) return 0;
        space(c);
        if (*c->at++ != ':') return 0;
        space(c);
        if (!read_cell(c, &cells[at]) || !(cells[at].kind & members[at].allowed)) return 0;
        space(c);
    } while (*c->at++ == ',');
    return c->at[-1] == '}';
}

int end_of_line(cursor *c) {
    space(c);
    return c->at == c->end || *c->at++ == '\n';
}

int number_of(names *n, const char *text, uint32_t length, int64_t *number) {
    PyObject *name = PyUnicode_FromStringAndSize(text, (Py_ssize_t)length);
    if (!name) return 0;
    PyObject *found = PyDict_GetItemWithError(n->dict, name);
    int done = 0;
    *number = UNKNOWN;
    if (found) {
        *number = PyLong_AsLongLong(found);
        done = *number != -1 || !PyErr_Occurred();
    } else if (!PyErr_Occurred()) {
        done = !n->list;
        if (n->list) {
            *number = PyList_Size(n->list);
            found = PyLong_FromLongLong(*number);
            done = found && PyList_Append(n->list, name) == 0 && PyDict_SetItem(n->dict, name, found) == 0;
            Py_XDECREF(found);
        }
    }
    Py_DECREF(name);
    return done;
}

int few_number_of(names *n, const char *text, uint32_t length, int64_t *number) {
    if (!length || length > SHORT) return number_of(n, text, length, number);
    unsigned place = (length * 7 + (unsigned char)text[length - 1]) % REMEMBERED;
    if (n->last[place].length != length || memcmp(n->last[place].text, text, length)) {
        if (!number_of(n, text, length, number)) return 0;
        memcpy(n->last[place].text, text, length);
        n->last[place].length = length;
        n->last[place].number = *number;
    }
    *number = n->last[place].number;
    return 1;
}

int append(PyObject *bytearray, const void *data, Py_ssize_t size) {
    Py_ssize_t before = PyByteArray_Size(bytearray);
    if (PyByteArray_Resize(bytearray, before + size) < 0) return 0;
    memcpy(PyByteArray_AsString(bytearray) + before, data, (size_t)size);
    return 1;
}

static PyMethodDef methods[] = {
    {"take_events", take_events, METH_VARARGS,
     "take_events(block, at, count, time, state) -> (at, count, time) after the plain events from `at` on."},
    {"take_records", take_records, METH_VARARGS,
     "take_records(block, at, columns, queues, names, values) -> where the plain records from `at` on end."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_core", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&module); }

/* Regular JSON lines of a history straight to columns: what the typed decoder and a dozen passes over its objects would
 * give, without the objects. Stable ABI of Python 3.11.
 *
 * Only what is plain is taken: ASCII text without escapes, whole numbers of 64 bits, values that are a number,
 * a string, null or a pair of these. At anything else, right or wrong, the whole block is left to the decoder, which also
 * has the words for what is wrong. So nothing is judged here; what is taken must mean what the decoder says it means.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "json.h"

#define NUMBER_MAX (((int64_t)1 << 62) - 1) /* processes and times beyond are garbage, in recording.py too */
#define NAMES 16 /* names of operations in one block */
#define NULL_ID INT64_MIN

enum member { INDEX = 1, PROCESS = 2, TYPE = 4, F = 8, VALUE = 16, TIME = 32, ERROR = 64, ORIGIN = 128 };
enum kind { NOTHING, NUMBERS, TEXTS };

/* A number, a string (where it begins and how long it is), or null. */
typedef struct {
    enum kind kind;
    int64_t number;
    uint32_t length;
} cell;

typedef struct {
    cell one[2];
    int pair, null, regular;
} value;

typedef struct {
    unsigned seen;
    int64_t index, process, time;
    int nemesis, timed, type, f, error;
    value value;
} line;

/* The cells of a column: numbers, or places of strings in the block; NULL_ID where there is none. */
typedef struct {
    enum kind kind;
    int64_t *number;
    uint32_t *length;
} column;

typedef struct {
    cursor c;
    int unknown_members;
    struct {
        int64_t start;
        uint32_t length;
    } names[NAMES];
    int named;
} reader;

static int one_cell(reader *r, cell *c) {
    c->number = NULL_ID;
    c->length = 0;
    c->kind = NOTHING;
    if (*r->c.at == 'n') return literal(&r->c, "null");
    if (*r->c.at == '"') {
        c->kind = TEXTS;
        return string(&r->c, &c->number, &c->length);
    }
    c->kind = NUMBERS;
    return whole(&r->c, &c->number);
}

static int read_value(reader *r, value *v) {
    const char *begin = r->c.at;
    v->pair = *r->c.at == '[';
    v->null = *r->c.at == 'n';
    v->one[1].kind = NOTHING;
    v->one[1].number = NULL_ID;
    if (v->pair) {
        r->c.at++;
        space(&r->c);
        v->regular = one_cell(r, &v->one[0]);
        if (v->regular) {
            space(&r->c);
            v->regular = *r->c.at == ',';
        }
        if (v->regular) {
            r->c.at++;
            space(&r->c);
            v->regular = one_cell(r, &v->one[1]);
        }
        if (v->regular) {
            space(&r->c);
            v->regular = *r->c.at == ']';
            r->c.at += v->regular;
        }
    } else {
        v->regular = one_cell(r, &v->one[0]);
    }
    if (v->regular) return 1;
    r->c.at = begin;
    return passed(&r->c, 0);
}

static int sound(int64_t number) { return number >= -NUMBER_MAX && number <= NUMBER_MAX; }

static int read_process(reader *r, line *l) {
    int64_t start;
    uint32_t length;
    l->nemesis = *r->c.at == '"';
    if (!l->nemesis) return whole(&r->c, &l->process) && sound(l->process);
    if (!string(&r->c, &start, &length)) return 0;
    const char *name = r->c.text + start;
    return length >= 7 && !memcmp(name, "nemesis", 7) && (length == 7 || name[7] == '/');
}

static int read_type(reader *r, line *l) {
    static const char *const types[] = {"\"invoke\"", "\"ok\"", "\"fail\"", "\"info\""};
    for (l->type = 0; l->type < 4; l->type++)
        if (literal(&r->c, types[l->type])) return 1;
    return 0;
}

static int read_f(reader *r, line *l) {
    int64_t start;
    uint32_t length;
    if (!string(&r->c, &start, &length)) return 0;
    for (l->f = 0; l->f < r->named; l->f++)
        if (r->names[l->f].length == length && !memcmp(r->c.text + r->names[l->f].start, r->c.text + start, length))
            return 1;
    if (r->named == NAMES) return 0;
    r->names[r->named].start = start;
    r->names[r->named++].length = length;
    return 1;
}

static int number_or_null(reader *r, int64_t *number, int *there) {
    *there = *r->c.at != 'n';
    return *there ? whole(&r->c, number) : literal(&r->c, "null");
}

static int is_name(const char *name, uint32_t length, const char *wanted) {
    return strlen(wanted) == length && !memcmp(name, wanted, length);
}

static int read_member(reader *r, line *l) {
    int64_t start, origin;
    uint32_t length;
    int there;
    if (!string(&r->c, &start, &length)) return 0;
    const char *name = r->c.text + start;
    space(&r->c);
    if (*r->c.at++ != ':') return 0;
    space(&r->c);
    unsigned member = is_name(name, length, "index")     ? INDEX
                      : is_name(name, length, "process") ? PROCESS
                      : is_name(name, length, "type")    ? TYPE
                      : is_name(name, length, "f")       ? F
                      : is_name(name, length, "value")   ? VALUE
                      : is_name(name, length, "time")    ? TIME
                      : is_name(name, length, "error")   ? ERROR
                      : is_name(name, length, "origin")  ? ORIGIN
                                                         : 0;
    if (!member) return r->unknown_members && passed(&r->c, 0);
    if (l->seen & member) return 0;
    l->seen |= member;
    switch (member) {
    case INDEX: return whole(&r->c, &l->index);
    case PROCESS: return read_process(r, l);
    case TYPE: return read_type(r, l);
    case F: return read_f(r, l);
    case VALUE: return read_value(r, &l->value);
    case TIME: return number_or_null(r, &l->time, &l->timed) && sound(l->time);
    case ERROR: l->error = *r->c.at != 'n'; return passed(&r->c, 0);
    default: return number_or_null(r, &origin, &there);
    }
}

static int read_line(reader *r, line *l) {
    const unsigned needed = INDEX | PROCESS | TYPE | F;
    memset(l, 0, sizeof *l);
    space(&r->c);
    if (*r->c.at++ != '{') return 0;
    do {
        space(&r->c);
        if (!read_member(r, l)) return 0;
        space(&r->c);
    } while (*r->c.at++ == ',');
    if (r->c.at[-1] != '}') return 0;
    space(&r->c);
    if (r->c.at < r->c.end && *r->c.at++ != '\n') return 0;
    return (l->seen & needed) == needed && (l->nemesis || ((l->seen & VALUE) && l->value.regular));
}

static int put(column *c, int64_t row, const cell *one) {
    if (one->kind != NOTHING) {
        if (c->kind != NOTHING && c->kind != one->kind) return 0;
        c->kind = one->kind;
    }
    c->number[row] = one->number;
    c->length[row] = one->length;
    return 1;
}

/* All that is found in a block; `pair` is -1 until a value says whether values are pairs. */
typedef struct {
    PyObject *bytes[5];
    int64_t *place, *process, *time;
    uint8_t *type, *f;
    column columns[2];
    int64_t events, rows;
    int pair, clock;
    PyObject *errors, *nothing;
} found;

static int64_t room(const char *text, Py_ssize_t size) {
    int64_t lines = 1;
    for (const char *at = text; (at = memchr(at, '\n', (size_t)(text + size - at))); at++) lines++;
    return lines;
}

static int open_found(found *x, int64_t lines) {
    static const int widths[5] = {8, 8, 8, 1, 1};
    char *memory[5];
    memset(x, 0, sizeof *x);
    x->pair = -1;
    for (int i = 0; i < 5; i++) {
        if (!(x->bytes[i] = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(lines * widths[i])))) return 0;
        memory[i] = PyBytes_AsString(x->bytes[i]);
    }
    x->place = (int64_t *)memory[0];
    x->process = (int64_t *)memory[1];
    x->time = (int64_t *)memory[2];
    x->type = (uint8_t *)memory[3];
    x->f = (uint8_t *)memory[4];
    x->errors = PyList_New(0);
    x->nothing = PyList_New(0);
    if (!x->errors || !x->nothing) return 0;
    int all = 1;
    for (int i = 0; i < 2; i++) {
        x->columns[i].number = PyMem_Malloc((size_t)lines * sizeof(int64_t));
        x->columns[i].length = PyMem_Malloc((size_t)lines * sizeof(uint32_t));
        all = all && x->columns[i].number && x->columns[i].length;
    }
    if (all) return 1;
    PyErr_NoMemory();
    return 0;
}

static void close_found(found *x) {
    for (int i = 0; i < 5; i++) Py_XDECREF(x->bytes[i]);
    for (int i = 0; i < 2; i++) {
        PyMem_Free(x->columns[i].number);
        PyMem_Free(x->columns[i].length);
    }
    Py_XDECREF(x->errors);
    Py_XDECREF(x->nothing);
}

static int note(PyObject *list, int64_t row) {
    PyObject *number = PyLong_FromLongLong(row);
    int failed = !number || PyList_Append(list, number) < 0;
    Py_XDECREF(number);
    return !failed;
}

/* Returns 1, 0 where the block is not regular, -1 with an error set. */
static int add(found *x, const line *l) {
    int64_t row = x->rows;
    const value *v = &l->value;
    if (v->null) {
        if (!note(x->nothing, row)) return -1;
    } else if (x->pair >= 0 && x->pair != v->pair) {
        return 0;
    } else {
        x->pair = v->pair;
    }
    if (!put(&x->columns[0], row, &v->one[0]) || !put(&x->columns[1], row, &v->one[1])) return 0;
    if (l->error && !note(x->errors, row)) return -1;
    x->place[row] = x->events;
    x->process[row] = l->process;
    x->time[row] = l->timed ? l->time : l->index;
    x->clock |= x->time[row] != l->index;
    x->type[row] = (uint8_t)l->type;
    x->f[row] = (uint8_t)l->f;
    x->rows++;
    return 1;
}

/* Numbers as bytes, strings as a list. */
static PyObject *cells(const char *text, const column *c, int64_t rows) {
    if (c->kind != TEXTS)
        return PyBytes_FromStringAndSize((const char *)c->number, (Py_ssize_t)(rows * (int64_t)sizeof(int64_t)));
    PyObject *list = PyList_New((Py_ssize_t)rows);
    for (int64_t row = 0; list && row < rows; row++) {
        PyObject *one;
        if (c->number[row] == NULL_ID) {
            one = Py_None;
            Py_INCREF(one);
        } else {
            one = PyUnicode_FromStringAndSize(text + c->number[row], (Py_ssize_t)c->length[row]);
        }
        if (!one) {
            Py_DECREF(list);
            return NULL;
        }
        PyList_SetItem(list, (Py_ssize_t)row, one);
    }
    return list;
}

static PyObject *result(const reader *r, found *x) {
    PyObject *names = PyTuple_New(r->named);
    for (int i = 0; names && i < r->named; i++) {
        PyObject *name = PyUnicode_FromStringAndSize(r->c.text + r->names[i].start, (Py_ssize_t)r->names[i].length);
        if (!name) {
            Py_CLEAR(names);
        } else {
            PyTuple_SetItem(names, i, name);
        }
    }
    PyObject *first = names ? cells(r->c.text, &x->columns[0], x->rows) : NULL;
    PyObject *second = first && x->pair == 1 ? cells(r->c.text, &x->columns[1], x->rows) : NULL;
    PyObject *out = NULL;
    if (first && (second || x->pair != 1))
        out = Py_BuildValue("LLOOOOOOOOOOO", (long long)x->events, (long long)x->rows, x->bytes[0], x->bytes[1],
                            x->bytes[2], x->bytes[3], x->bytes[4], names, x->clock ? Py_True : Py_False, x->errors,
                            x->nothing, first, second ? second : Py_None);
    Py_XDECREF(names);
    Py_XDECREF(first);
    Py_XDECREF(second);
    return out;
}

static PyObject *scan(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *block;
    long long first;
    int unknown_members;
    char *text;
    Py_ssize_t size;
    if (!PyArg_ParseTuple(args, "SLp", &block, &first, &unknown_members)) return NULL;
    if (PyBytes_AsStringAndSize(block, &text, &size) < 0) return NULL;
    reader r = {.c = {text, text, text + size}, .unknown_members = unknown_members};
    found x;
    PyObject *out = NULL;
    int regular = open_found(&x, room(text, size)) ? 1 : -1;
    while (regular == 1 && r.c.at < r.c.end) {
        line l;
        regular = read_line(&r, &l) && l.index == first + x.events;
        if (regular && !l.nemesis) regular = add(&x, &l);
        x.events++;
    }
    if (regular == 1) {
        out = result(&r, &x);
    } else if (!regular) {
        out = Py_None;
        Py_INCREF(out);
    }
    close_found(&x);
    return out;
}

static PyMethodDef methods[] = {
    {"scan", scan, METH_VARARGS,
     "scan(block, first, unknown_members) -> columns of the block's events, whose index counts from `first`; None where "
     "anything in it is not plain."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_lines", NULL, 0, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__lines(void) { return PyModule_Create(&module); }

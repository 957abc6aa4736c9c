/* Lines of a dump file (checkers/dumps.py) to rows of nine numbers. */
#include "plain.h"

enum { O, S, D, T, Q, K, V, X, C, MEMBERS };
#define DIGEST_HEX 15

static const member table[MEMBERS] = {
    {"o", WHOLE},          {"s", WHOLE},          {"d", TEXT},
    {"t", WHOLE},          {"q", TEXT | NOTHING}, {"k", WHOLE | NOTHING},
    {"v", TEXT | NOTHING}, {"x", TRUTH | NOTHING}, {"c", TRUTH | NOTHING},
};

static int digest(const cell *c, int64_t *number) {
    *number = 0;
    for (uint32_t i = 0; i < c->length && i < DIGEST_HEX; i++) {
        char one = c->text[i];
        int digit = is_digit(one) ? one - '0' : one >= 'a' && one <= 'f' ? one - 'a' + 10 : -1;
        if (digit < 0) return 0;
        *number = *number << 4 | digit;
    }
    return c->length > 0;
}

/* Returns 1, 0 where the line is not plain, -1 with an error set. */
static int take_record(cursor *c, names *queues, names *values, int64_t *row) {
    cell cells[MEMBERS];
    if (!read_object(c, table, MEMBERS, cells) || !end_of_line(c)) return 0;
    for (int i = O; i <= T; i++)
        if (cells[i].kind == ABSENT) return 0;
    for (int i = 0; i < MEMBERS; i++) row[i] = is_null(&cells[i]) ? -1 : cells[i].number;
    if (!digest(&cells[D], &row[D])) return 0;
    if (cells[Q].kind == TEXT && !few_number_of(queues, cells[Q].text, cells[Q].length, &row[Q])) return -1;
    if (cells[V].kind == TEXT && !number_of(values, cells[V].text, cells[V].length, &row[V])) return -1;
    return 1;
}

PyObject *take_records(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *block, *rows;
    Py_ssize_t at, size;
    char *text;
    names queues = {0}, values = {0};
    if (!PyArg_ParseTuple(args, "SnO!O!O!O!", &block, &at, &PyByteArray_Type, &rows, &PyDict_Type, &queues.dict,
                          &PyList_Type, &queues.list, &PyDict_Type, &values.dict))
        return NULL;
    if (PyBytes_AsStringAndSize(block, &text, &size) < 0) return NULL;
    if (at < 0 || at > size) at = size;
    cursor c = {text, text + at, text + size};
    int taken = 1;
    while (taken == 1 && c.at < c.end) {
        int64_t row[MEMBERS];
        const char *begin = c.at;
        taken = take_record(&c, &queues, &values, row);
        if (taken == 1 && !append(rows, row, sizeof row)) taken = -1;
        if (!taken) c.at = begin;
    }
    return taken < 0 ? NULL : PyLong_FromSsize_t(c.at - c.text);
}

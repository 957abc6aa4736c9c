/* What the compiled reader of recorded lines shares: plain cells, and the numbers that names have in Python's tables. */
#ifndef CHECKERS_PLAIN_H
#define CHECKERS_PLAIN_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "json.h"

/* Kinds of values, as bits: a member of a line allows some of them. */
enum { NOTHING = 1, TRUTH = 2, WHOLE = 4, TEXT = 8, OTHER = 16, ANY = 31 };

/* One value of a line; ABSENT where the line does not have it. `text` is where it begins, of a string its first byte. */
typedef struct {
    int kind;
    int64_t number; /* or 0 and 1 for false and true */
    const char *text;
    uint32_t length;
} cell;

#define ABSENT 0

static inline int is_null(const cell *c) { return c->kind == ABSENT || c->kind == NOTHING; }

int read_cell(cursor *c, cell *out);

/* Reads one object of a line into `cells`, by the names of its members; each must have a kind that `allowed` says.
 * Returns 0 at what is not plain, and at a member that is unknown or comes twice. */
typedef struct {
    const char *name;
    int allowed;
} member;
int read_object(cursor *c, const member *members, int count, cell *cells);

/* The line end after an object, or the end of the text. */
int end_of_line(cursor *c);

/* Dense numbers of strings, kept in a dict of Python's and a list of the names. Short strings seen last are remembered,
 * since most tables have few; `list` is NULL where new names get no number. */
#define REMEMBERED 32
#define SHORT 48
typedef struct {
    PyObject *dict, *list;
    struct {
        char text[SHORT];
        uint32_t length; /* 0 where nothing is remembered */
        int64_t number;
    } last[REMEMBERED];
} names;

#define UNKNOWN (-1)

/* The number of a string, given to it if it had none and there is a list; UNKNOWN otherwise. Returns 0 with an error set. */
int number_of(names *n, const char *text, uint32_t length, int64_t *number);
/* The same for a table of few names. */
int few_number_of(names *n, const char *text, uint32_t length, int64_t *number);

/* Appends to a bytearray. Returns 0 with an error set. */
int append(PyObject *bytearray, const void *data, Py_ssize_t size);

PyObject *take_events(PyObject *self, PyObject *args);
PyObject *take_records(PyObject *self, PyObject *args);

#endif

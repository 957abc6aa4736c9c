/* Python's door to the core: columns in through the buffer protocol, verdicts and counts out. Stable ABI of 3.11. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core.h"

#define COLUMNS 8
#define FIRST_WORD 1500
#define QUANTUM 500 /* configurations of a partition in the first round; rounds double */
#define ANYTHING 200 /* a read that constrains nothing */

typedef struct {
    Py_buffer views[COLUMNS];
    int held;
} columns;

static void release(columns *c) {
    while (c->held) PyBuffer_Release(&c->views[--c->held]);
}

/* Returns the memory of a column of `n` cells (n < 0: any number, which is then stored), NULL with an error set. */
static const void *column(columns *c, PyObject *object, const char *name, Py_ssize_t size, int64_t *n) {
    Py_buffer *view = &c->views[c->held];
    if (PyObject_GetBuffer(object, view, PyBUF_C_CONTIGUOUS) < 0) return NULL;
    c->held++;
    if (view->itemsize != size) {
        PyErr_Format(PyExc_ValueError, "column %s: cells of %zd bytes, %zd expected", name, view->itemsize, size);
        return NULL;
    }
    int64_t here = view->len / size;
    if (*n < 0) *n = here;
    if (here != *n) {
        PyErr_Format(PyExc_ValueError, "column %s has %lld rows, others %lld", name, (long long)here, (long long)*n);
        return NULL;
    }
    if (here > ROWS_MAX) {
        PyErr_Format(PyExc_ValueError, "%lld rows are more than the core takes (%lld)", (long long)here,
                     (long long)ROWS_MAX);
        return NULL;
    }
    static const int64_t nothing = 0;
    return view->buf ? view->buf : &nothing;
}

typedef struct {
    columns held;
    const int64_t *call, *ret, *a, *b, *key;
    const uint8_t *f;
    int64_t n;
} table;

/* Takes the columns that every decider reads. `allowed`: bits of the codes that may occur. */
static int take_columns(table *t, PyObject *call, PyObject *ret, PyObject *f, PyObject *a, PyObject *b, PyObject *key,
                        uint32_t allowed) {
    memset(t, 0, sizeof *t);
    t->n = -1;
    if (!(t->call = column(&t->held, call, "call", 8, &t->n))) return -1;
    if (!(t->ret = column(&t->held, ret, "ret", 8, &t->n))) return -1;
    if (!(t->f = column(&t->held, f, "f", 1, &t->n))) return -1;
    if (a && a != Py_None && !(t->a = column(&t->held, a, "a", 8, &t->n))) return -1;
    if (b && b != Py_None && !(t->b = column(&t->held, b, "b", 8, &t->n))) return -1;
    if (key && key != Py_None && !(t->key = column(&t->held, key, "key", 8, &t->n))) return -1;
    int64_t wrong = -1;
    for (int64_t i = 0; i < t->n; i++)
        if (t->ret[i] < t->call[i] || t->f[i] > 31 || !(allowed >> t->f[i] & 1)) {
            wrong = i;
            break;
        }
    if (wrong < 0) return 0;
    if (t->ret[wrong] < t->call[wrong])
        PyErr_Format(PyExc_ValueError, "row %lld returns at %lld, before its call at %lld", (long long)wrong,
                     (long long)t->ret[wrong], (long long)t->call[wrong]);
    else
        PyErr_Format(PyExc_ValueError, "row %lld: this model has no operation of code %d", (long long)wrong,
                     (int)t->f[wrong]);
    return -1;
}

static PyObject *numbers(const int64_t *from, int n) {
    PyObject *out = PyTuple_New(n);
    for (int i = 0; out && i < n; i++) {
        PyObject *number = PyLong_FromLongLong(from[i]);
        if (!number || PyTuple_SetItem(out, i, number) < 0) {
            Py_DECREF(out);
            return NULL;
        }
    }
    return out;
}

static PyObject *counted(int status, const int64_t *counts, int n) {
    if (status == NO_MEMORY) return PyErr_NoMemory();
    if (status == AMBIGUOUS) Py_RETURN_NONE;
    return numbers(counts, n);
}

static PyObject *py_queue(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *f, *a;
    int ordered;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOp", &call, &ret, &f, &a, &ordered)) return NULL;
    table t;
    PyObject *out = NULL;
    if (take_columns(&t, call, ret, f, a, NULL, NULL, 1u << ENQUEUE | 1u << DEQUEUE | 1u << EMPTY | 1u << DRAIN) == 0) {
        int64_t counts[Q_COUNTS];
        int status = decide_queue(t.call, t.ret, t.f, t.a, t.n, ordered, counts);
        out = counted(status, counts, Q_COUNTS);
    }
    release(&t.held);
    return out;
}

static PyObject *py_log(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *f, *a, *b;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOO", &call, &ret, &f, &a, &b)) return NULL;
    table t;
    PyObject *out = NULL;
    if (take_columns(&t, call, ret, f, a, b, NULL, 1u << APPEND | 1u << LOG_READ | 1u << LOG_END) == 0) {
        int64_t counts[L_COUNTS];
        int status = decide_log(t.call, t.ret, t.f, t.a, t.b, t.n, counts);
        out = counted(status, counts, L_COUNTS);
    }
    release(&t.held);
    return out;
}

static PyObject *py_zones(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *f, *a, *key, *out = NULL, *marks = NULL;
    long long init;
    int null_unknown;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOLp", &call, &ret, &f, &a, &key, &init, &null_unknown)) return NULL;
    table t;
    if (take_columns(&t, call, ret, f, a, NULL, key, 1u << READ | 1u << WRITE) < 0) goto done;
    uint8_t *ambiguous = calloc((size_t)t.n + 1, 1);
    if (!ambiguous) {
        PyErr_NoMemory();
        goto done;
    }
    int64_t counts[Z_COUNTS], rows = 0;
    int status = decide_zones(t.call, t.ret, t.f, t.a, t.key, t.n, init, null_unknown, ambiguous, &rows, counts);
    PyObject *found = counted(status, counts, Z_COUNTS);
    if (found && rows) marks = PyBytes_FromStringAndSize((const char *)ambiguous, t.n);
    if (found && (marks || !rows)) out = Py_BuildValue("(OO)", found, marks ? marks : Py_None);
    Py_XDECREF(found);
    Py_XDECREF(marks);
    free(ambiguous);
done:
    release(&t.held);
    return out;
}

static PyObject *py_order(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *out = NULL;
    (void)self;
    if (!PyArg_ParseTuple(args, "OO", &call, &ret)) return NULL;
    columns held = {.held = 0};
    int64_t n = -1, m = 0;
    uint32_t *events = NULL;
    const int64_t *c = column(&held, call, "call", 8, &n), *r = c ? column(&held, ret, "ret", 8, &n) : NULL;
    if (c && r) {
        if (order_events(c, r, n, &events, &m) != DONE)
            PyErr_NoMemory();
        else
            out = PyBytes_FromStringAndSize((const char *)events, (Py_ssize_t)m * 4);
    }
    free(events);
    release(&held);
    return out;
}

/* --- searches over partitions ------------------------------------------------------------------------------------- */

typedef struct {
    PyObject *step, *reach;
} python_model;

static int64_t ask(PyObject *function, int64_t state, int64_t klass) {
    PyObject *answer = PyObject_CallFunction(function, "LL", (long long)state, (long long)klass);
    if (!answer) return -2;
    long long number = PyLong_AsLongLong(answer);
    Py_DECREF(answer);
    if (number == -1 && PyErr_Occurred()) return -2;
    return number < -1 ? -1 : number;
}

static int64_t ask_step(void *context, int64_t state, int64_t klass) {
    return ask(((python_model *)context)->step, state, klass);
}

static int ask_reach(void *context, int64_t state, int64_t klass) {
    return (int)ask(((python_model *)context)->reach, state, klass);
}

static int signalled(void) { return PyErr_CheckSignals() != 0; }

typedef struct {
    enum kind kind;
    int64_t parts;
    int64_t *start;       /* parts + 1: ops of a part */
    int64_t *event_start; /* parts + 1 */
    op *ops;
    uint32_t *events; /* indices local to the part */
    int64_t *init;    /* of each part */
    text *texts;
    search **searches;
    uint8_t *verdicts;
    hooks hooks;
    purse purse;
    int64_t nodes;
    int out_of;
    int details; /* searches are kept to be asked what they found */
} batch;

static void batch_close(batch *b) {
    for (int64_t p = 0; b->searches && p < b->parts; p++) search_close(b->searches[p]);
    free(b->start);
    free(b->event_start);
    free(b->ops);
    free(b->events);
    free(b->init);
    free(b->texts);
    free(b->searches);
    free(b->verdicts);
}

/* Rounds of configurations that double, so that the easiest bad part decides. 0, or -1 with an error set. */
static int batch_run(batch *b, int64_t nodes_max, int stop) {
    for (int64_t quantum = QUANTUM;; quantum = quantum < ((int64_t)1 << 40) ? 2 * quantum : quantum) {
        int64_t open = 0;
        for (int64_t p = 0; p < b->parts; p++) {
            if (b->verdicts[p]) continue;
            search *s = b->searches[p];
            if (!s) {
                int64_t from = b->start[p];
                s = b->searches[p] =
                    search_open(b->kind, b->ops + from, (uint32_t)(b->start[p + 1] - from), b->events + b->event_start[p],
                                b->event_start[p + 1] - b->event_start[p], b->init[p], b->texts, &b->hooks, &b->purse);
                if (!s) {
                    b->out_of = 2;
                    return 0;
                }
            }
            int64_t before = search_nodes(s), slice = quantum;
            if (nodes_max > 0 && nodes_max - b->nodes < slice) slice = nodes_max - b->nodes;
            int verdict = search_run(s, slice, &b->out_of);
            b->nodes += search_nodes(s) - before;
            if (verdict == INTERRUPTED) {
                if (!PyErr_Occurred()) PyErr_SetString(PyExc_RuntimeError, "the search was interrupted");
                return -1;
            }
            if (verdict == NO_MEMORY) b->out_of = 2;
            if (verdict > 0) b->verdicts[p] = (uint8_t)verdict;
            if (verdict > 0 && !b->details) { /* the next part gets memory that is still in the caches */
                search_close(s);
                b->searches[p] = NULL;
            }
            if (verdict == INVALID && stop) return 0;
            if (b->out_of) return 0;
            if (verdict <= 0) {
                open++;
                if (nodes_max > 0 && b->nodes >= nodes_max) {
                    b->out_of = 3;
                    return 0;
                }
            }
        }
        if (!open) return 0;
    }
}

typedef struct {
    PyObject *list;
    const op *ops;
    enum kind kind;
} gathering;

static PyObject *state_object(enum kind kind, const search *s, int64_t state) {
    const text *t = kind == TEXT ? search_text(s, state) : NULL;
    return t ? PyUnicode_FromStringAndSize(t->bytes, (Py_ssize_t)t->length) : PyLong_FromLongLong(state);
}

static int gather(void *context, const search *s, int64_t state, const uint32_t *open, uint32_t n) {
    gathering *g = context;
    PyObject *value = state_object(g->kind, s, state), *rows = PyTuple_New(n), *pair = NULL;
    int bad = !value || !rows;
    for (uint32_t i = 0; !bad && i < n; i++) {
        PyObject *row = PyLong_FromUnsignedLong(g->ops[open[i]].row);
        bad = !row || PyTuple_SetItem(rows, i, row) < 0;
    }
    if (!bad) pair = PyTuple_Pack(2, value, rows);
    if (!pair || PyList_Append(g->list, pair) < 0) bad = 1;
    Py_XDECREF(pair);
    Py_XDECREF(value);
    Py_XDECREF(rows);
    return bad ? NO_MEMORY : DONE;
}

/* (verdict, nodes, order as bytes | None, (failing row, last good row, configurations in all, some of them) | None) */
static PyObject *detail(const batch *b, int64_t p) {
    search *s = b->searches[p];
    int verdict = b->verdicts[p];
    PyObject *order = NULL, *failed = NULL, *out = NULL;
    if (verdict == VALID) {
        uint32_t *rows;
        int64_t count;
        if (search_order(s, &rows, &count) != DONE) return PyErr_NoMemory();
        order = PyBytes_FromStringAndSize((const char *)rows, (Py_ssize_t)count * 4);
        free(rows);
        if (!order) return NULL;
    } else if (verdict == INVALID) {
        failure why;
        search_failure(s, &why);
        const op *ops = b->ops + b->start[p];
        gathering g = {PyList_New(0), ops, b->kind};
        if (!g.list || search_configurations(s, 16, gather, &g) != DONE) {
            Py_XDECREF(g.list);
            return PyErr_Occurred() ? NULL : PyErr_NoMemory();
        }
        failed = Py_BuildValue("(LLkN)", (long long)(why.failing == NONE ? -1 : (int64_t)ops[why.failing].row),
                               (long long)(why.last_good == NONE ? -1 : (int64_t)why.last_good),
                               (unsigned long)why.count, g.list);
        if (!failed) return NULL;
    }
    out = Py_BuildValue("(iLOO)", verdict, (long long)(s ? search_nodes(s) : 0), order ? order : Py_None,
                        failed ? failed : Py_None);
    Py_XDECREF(order);
    Py_XDECREF(failed);
    return out;
}

/* (verdict of each part as bytes, nodes, what ran out, details | None) */
static PyObject *batch_result(batch *b) {
    PyObject *list = NULL;
    if (b->details) {
        if (!(list = PyList_New(0))) return NULL;
        for (int64_t p = 0; p < b->parts; p++) {
            PyObject *one = detail(b, p);
            if (!one || PyList_Append(list, one) < 0) {
                Py_XDECREF(one);
                Py_DECREF(list);
                return NULL;
            }
            Py_DECREF(one);
        }
    }
    PyObject *out = Py_BuildValue("(y#LiO)", (const char *)b->verdicts, (Py_ssize_t)b->parts, (long long)b->nodes,
                                  b->out_of, list ? list : Py_None);
    Py_XDECREF(list);
    return out;
}

/* Room for n rows in a number of parts. */
static int batch_open(batch *b, int64_t n, int64_t parts) {
    b->parts = parts;
    b->start = calloc((size_t)parts + 1, sizeof *b->start);
    b->event_start = calloc((size_t)parts + 1, sizeof *b->event_start);
    b->init = calloc((size_t)parts + 1, sizeof *b->init);
    b->searches = calloc((size_t)parts + 1, sizeof *b->searches);
    b->verdicts = calloc((size_t)parts + 1, 1);
    b->ops = malloc((size_t)(n + 1) * sizeof *b->ops);
    b->events = malloc((size_t)(2 * n + 1) * sizeof *b->events);
    b->purse.used = (size_t)n * (sizeof *b->ops + 2 * sizeof *b->events);
    if (b->start && b->event_start && b->init && b->searches && b->verdicts && b->ops && b->events) return 0;
    PyErr_NoMemory();
    return -1;
}

static void limits(batch *b, long long wall_ms, long long memory_mb, int details) {
    b->details = details;
    b->purse.limit = memory_mb > 0 ? (size_t)memory_mb * 1000000 : 0;
    b->purse.deadline = wall_ms > 0 ? now_seconds() + 1e-3 * (double)wall_ms : 0;
    b->purse.interrupted = signalled;
    b->purse.first_word = FIRST_WORD;
}

/* Parts are ranges of rows; starts may be NULL for one part. */
static int order_ranges(batch *b, const table *t, const int64_t *starts) {
    int64_t at = 0;
    for (int64_t p = 0; p < b->parts; p++) {
        int64_t from = starts ? starts[p] : 0, to = starts ? starts[p + 1] : t->n, m;
        uint32_t *events;
        if (from < 0 || to < from || to > t->n) {
            PyErr_Format(PyExc_ValueError, "part %lld begins at row %lld and ends at %lld", (long long)p,
                         (long long)from, (long long)to);
            return -1;
        }
        if (order_events(t->call + from, t->ret + from, to - from, &events, &m) != DONE) {
            PyErr_NoMemory();
            return -1;
        }
        if (b->parts == 1) {
            free(b->events);
            b->events = events;
        } else {
            memcpy(b->events + at, events, (size_t)m * sizeof *events);
            free(events);
        }
        b->start[p] = from;
        b->start[p + 1] = to;
        b->event_start[p] = at;
        b->event_start[p + 1] = at += m;
    }
    return 0;
}

static const int64_t *take_starts(table *t, PyObject *starts, int64_t *parts) {
    *parts = 1;
    if (starts == Py_None) return NULL;
    int64_t cells = -1;
    const int64_t *out = column(&t->held, starts, "starts", 8, &cells);
    if (!out) return NULL;
    if (cells < 1) {
        PyErr_SetString(PyExc_ValueError, "starts has no cell");
        return NULL;
    }
    *parts = cells - 1;
    return out;
}

static PyObject *py_registers(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *f, *a, *b_column, *starts_object, *init, *out = NULL;
    long long nodes, wall_ms, memory_mb, first_word = FIRST_WORD;
    int null_unknown, stop, details;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOOOpLLLpp|L", &call, &ret, &f, &a, &b_column, &starts_object, &init,
                          &null_unknown, &nodes, &wall_ms, &memory_mb, &stop, &details, &first_word))
        return NULL;
    table t;
    batch b;
    memset(&b, 0, sizeof b);
    b.kind = REGISTER;
    if (take_columns(&t, call, ret, f, a, b_column, NULL, 1u << READ | 1u << WRITE | 1u << CAS | 1u << CAS_FAILED) < 0)
        goto done;
    int64_t parts;
    const int64_t *starts = take_starts(&t, starts_object, &parts), *inits = NULL;
    long long one = 0;
    if (PyErr_Occurred()) goto done;
    if (PyLong_Check(init))
        one = PyLong_AsLongLong(init);
    else if (!(inits = column(&t.held, init, "init", 8, &parts)))
        goto done;
    if (PyErr_Occurred() || batch_open(&b, t.n, parts) < 0 || order_ranges(&b, &t, starts) < 0) goto done;
    limits(&b, wall_ms, memory_mb, details);
    b.purse.first_word = first_word;
    for (int64_t p = 0; p < parts; p++) {
        b.init[p] = inits ? inits[p] : one;
        for (int64_t i = b.start[p]; i < b.start[p + 1]; i++) {
            op *o = b.ops + i;
            o->row = (uint32_t)i;
            o->f = t.f[i];
            o->a = t.a[i];
            o->b = t.f[i] == CAS && t.b ? t.b[i] : 0;
            o->slot = t.ret[i] == NEVER ? NONE : 0;
            o->pure = o->f == READ || o->f == CAS_FAILED || (o->f == CAS && o->a == o->b);
            o->info = 0;
            if (null_unknown && o->f == READ && o->a == NULL_ID) { /* always legal: as a compare that cannot succeed */
                o->f = CAS_FAILED;
                o->a = INT64_MIN + 1;
            }
        }
    }
    if (batch_run(&b, nodes, stop) == 0) out = batch_result(&b);
done:
    batch_close(&b);
    release(&t.held);
    return out;
}

static PyObject *py_table(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *klass, *pure, *starts_object, *inits_object, *step, *reach, *out = NULL;
    long long nodes, wall_ms, memory_mb;
    int stop, details;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOOOOOLLLpp", &call, &ret, &klass, &pure, &starts_object, &inits_object, &step,
                          &reach, &nodes, &wall_ms, &memory_mb, &stop, &details))
        return NULL;
    table t;
    batch b;
    python_model model = {step, reach};
    memset(&b, 0, sizeof b);
    b.kind = TABLE;
    b.hooks = (hooks){ask_step, reach == Py_None ? NULL : ask_reach, &model};
    if (take_columns(&t, call, ret, pure, klass, NULL, NULL, 3u) < 0) goto done; /* "f" is the flag of purity */
    int64_t parts;
    const int64_t *starts = take_starts(&t, starts_object, &parts);
    if (PyErr_Occurred()) goto done;
    const int64_t *inits = column(&t.held, inits_object, "init", 8, &parts);
    if (!inits || batch_open(&b, t.n, parts) < 0 || order_ranges(&b, &t, starts) < 0) goto done;
    limits(&b, wall_ms, memory_mb, details);
    for (int64_t p = 0; p < parts; p++) b.init[p] = inits[p];
    for (int64_t i = 0; i < t.n; i++) {
        if (t.a[i] < 0 || t.a[i] > INT32_MAX) {
            PyErr_Format(PyExc_ValueError, "row %lld: class %lld", (long long)i, (long long)t.a[i]);
            goto done;
        }
        b.ops[i] = (op){t.a[i], 0, (uint32_t)i, t.ret[i] == NEVER ? NONE : 0, 0, TRANSACTION, t.f[i]};
    }
    if (batch_run(&b, nodes, stop) == 0) out = batch_result(&b);
done:
    batch_close(&b);
    release(&t.held);
    return out;
}

static int read_text(PyObject *object, text *out, int hashed) {
    Py_ssize_t length;
    if (object == Py_None) {
        *out = (text){"", 0, 0, 1};
        return 0;
    }
    const char *bytes = PyUnicode_AsUTF8AndSize(object, &length);
    if (!bytes) return -1;
    *out = (text){bytes, length, 0, 1};
    for (Py_ssize_t i = 0; hashed && i < length; i++) {
        out->hash = out->hash * UINT64_C(0x9e3779b97f4a7c15) + (unsigned char)bytes[i] + 1;
        out->power *= UINT64_C(0x9e3779b97f4a7c15);
    }
    return 0;
}

/* Numbers the keys of the rows. part[row]; names gets each key once. */
static int number_keys(PyObject *keys, int64_t n, uint32_t *part, PyObject *names) {
    PyObject *known = PyDict_New();
    int64_t parts = 0;
    if (!known) return -1;
    for (int64_t row = 0; row < n; row++) {
        PyObject *key = PyList_GetItem(keys, row), *number = key ? PyDict_GetItemWithError(known, key) : NULL;
        if (number) {
            part[row] = (uint32_t)PyLong_AsUnsignedLong(number);
            continue;
        }
        if (PyErr_Occurred() || !(number = PyLong_FromLongLong(parts))) goto failed;
        int bad = PyDict_SetItem(known, key, number) < 0 || PyList_Append(names, key) < 0;
        Py_DECREF(number);
        if (bad) goto failed;
        part[row] = (uint32_t)parts++;
    }
    Py_DECREF(known);
    return 0;
failed:
    Py_DECREF(known);
    return -1;
}

static PyObject *py_texts(PyObject *self, PyObject *args) {
    PyObject *call, *ret, *f, *keys, *texts, *init, *out = NULL, *names = NULL;
    long long nodes, wall_ms, memory_mb;
    int stop, details;
    (void)self;
    if (!PyArg_ParseTuple(args, "OOOOO!OLLLpp", &call, &ret, &f, &keys, &PyList_Type, &texts, &init, &nodes, &wall_ms,
                          &memory_mb, &stop, &details))
        return NULL;
    table t;
    batch b;
    uint32_t *part = NULL, *local = NULL, *events = NULL;
    memset(&b, 0, sizeof b);
    b.kind = TEXT;
    if (take_columns(&t, call, ret, f, NULL, NULL, NULL, 1u << READ | 1u << WRITE | 1u << APPEND) < 0) goto done;
    if (PyList_Size(texts) != t.n || (keys != Py_None && (!PyList_Check(keys) || PyList_Size(keys) != t.n))) {
        PyErr_SetString(PyExc_ValueError, "keys and texts must be lists with one entry a row");
        goto done;
    }
    part = calloc((size_t)t.n + 1, sizeof *part);
    local = malloc(((size_t)t.n + 1) * sizeof *local);
    names = PyList_New(0);
    if (!part || !local || !names) {
        PyErr_NoMemory();
        goto done;
    }
    if (keys != Py_None && number_keys(keys, t.n, part, names) < 0) goto done;
    if (keys == Py_None && PyList_Append(names, Py_None) < 0) goto done;
    int64_t parts = (int64_t)PyList_Size(names), m;
    if (batch_open(&b, t.n, parts) < 0) goto done;
    limits(&b, wall_ms, memory_mb, details);
    if (!(b.texts = malloc((size_t)(t.n + parts + 1) * sizeof *b.texts)) ||
        order_events(t.call, t.ret, t.n, &events, &m) != DONE) {
        PyErr_NoMemory();
        goto done;
    }
    for (int64_t row = 0; row < t.n; row++) {
        b.start[part[row] + 1]++;
        b.event_start[part[row] + 1] += 1 + (t.ret[row] != NEVER);
    }
    for (int64_t p = 0; p < parts; p++) {
        b.start[p + 1] += b.start[p];
        b.event_start[p + 1] += b.event_start[p];
        b.init[p] = t.n + p;
        PyObject *value = init;
        if (PyDict_Check(init) && !(value = PyDict_GetItemWithError(init, PyList_GetItem(names, p)))) {
            if (PyErr_Occurred()) goto done;
            value = Py_None;
        }
        if (read_text(value, b.texts + t.n + p, 1) < 0) goto done;
    }
    for (int64_t row = 0; row < t.n; row++) { /* start[p] runs ahead and is set back below */
        local[row] = (uint32_t)b.start[part[row]]++;
        op *o = b.ops + local[row];
        *o = (op){row, 0, (uint32_t)row, t.ret[row] == NEVER ? NONE : 0, 0, t.f[row], t.f[row] == READ};
        if (read_text(PyList_GetItem(texts, row), b.texts + row, t.f[row] != READ) < 0) goto done;
    }
    for (int64_t p = parts; p > 0; p--) b.start[p] = b.start[p - 1];
    b.start[0] = 0;
    for (int64_t i = 0; i < m; i++) {
        uint32_t row = events[i] >> 1, p = part[row];
        b.events[b.event_start[p]++] = (local[row] - (uint32_t)b.start[p]) << 1 | (events[i] & 1);
    }
    for (int64_t p = parts; p > 0; p--) b.event_start[p] = b.event_start[p - 1];
    b.event_start[0] = 0;
    if (batch_run(&b, nodes, stop) == 0) {
        PyObject *result = batch_result(&b);
        if (result) out = PyTuple_Pack(2, result, names);
        Py_XDECREF(result);
    }
done:
    free(part);
    free(local);
    free(events);
    batch_close(&b);
    Py_XDECREF(names);
    release(&t.held);
    return out;
}

static PyMethodDef methods[] = {
    {"queue", py_queue, METH_VARARGS, "queue(call, ret, f, a, ordered) -> counts, None if values are not unique"},
    {"log", py_log, METH_VARARGS, "log(call, ret, f, a, b) -> counts, None if values of unknown appends repeat"},
    {"zones", py_zones, METH_VARARGS,
     "zones(call, ret, f, a, key, init, null_unknown) -> (counts, rows of keys whose writes are not unique)"},
    {"order", py_order, METH_VARARGS, "order(call, ret) -> events as uint32: row << 1 | is_return"},
    {"registers", py_registers, METH_VARARGS,
     "registers(call, ret, f, a, b, starts, init, null_unknown, nodes, wall_ms, memory_mb, stop, details, first_word)"},
    {"texts", py_texts, METH_VARARGS,
     "texts(call, ret, f, keys, texts, init, nodes, wall_ms, memory_mb, stop, details)"},
    {"table", py_table, METH_VARARGS,
     "table(call, ret, classes, pure, starts, inits, step, reach, nodes, wall_ms, memory_mb, stop, details)"},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_core", "The compiled part of the linearizability engine.", -1, methods, NULL, NULL, NULL,
    NULL,
};

PyMODINIT_FUNC PyInit__core(void) { return PyModule_Create(&definition); }

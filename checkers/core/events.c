/* Lines of a history of format 1 (checkers/event.py) to rows of the tables in checkers/builder.py: what its `add` does
 * with a plain event, done without an object for each line, name and number.
 *
 * Plain is a client's event that breaks no rule of C0 and belongs to a send of one message or to a read; any other is
 * left to `add` untouched. An invocation is kept in `open` as the line it came from, and read again when its completion
 * comes; `add` makes an event of it if it is the one to complete it.
 */
#include "plain.h"

enum {
    INDEX, TIME, PROCESS, TYPE, F, VALUE, ERROR, QUEUE, QUEUES, NODE, ROLE, EPOCH, CLIENT, ID, STATUS, ACK, FLUSHED,
    OFFSET, ATTEMPTS, INTENDED, SENTINEL, KEY, MODE, GROUP, POSITIONS, SEEK, MOVED, FILTERED, REBALANCE, RECONSUME,
    ORDERLY, ROUND, COMPLETE, MEMBERS
};

#define TEXT_ (TEXT | NOTHING)
#define WHOLE_ (WHOLE | NOTHING)
#define TRUTH_ (TRUTH | NOTHING)

static const member table[MEMBERS] = {
    {"index", WHOLE},      {"time", WHOLE},       {"process", WHOLE},    {"type", TEXT},       {"f", TEXT},
    {"value", ANY},        {"error", ANY},        {"queue", TEXT_},      {"queues", NOTHING},  {"node", TEXT_},
    {"role", TEXT_},       {"epoch", WHOLE_},     {"client", TEXT_},     {"id", TEXT_},        {"status", TEXT_},
    {"ack", TEXT_},        {"flushed", TRUTH_},   {"offset", WHOLE_},    {"attempts", WHOLE_}, {"intended", WHOLE_},
    {"sentinel", TRUTH | WHOLE_}, {"key", TEXT_}, {"mode", TEXT_},       {"group", TEXT_},     {"positions", ANY},
    {"seek", NOTHING},     {"moved", TRUTH_},     {"filtered", TRUTH_},  {"rebalance", NOTHING}, {"reconsume", WHOLE_},
    {"orderly", TRUTH_},   {"round", WHOLE_},     {"complete", TRUTH_},
};

enum { INVOKE, OK, FAIL, INFO };
enum { POLL, READ, DRAIN, HANDLE, SEND, NO_READ };
enum { FUNCTIONS, VALUES, QUEUE_NAMES, NODES, STATUSES, ACKS, GROUPS, KEYS, TABLES };

#define TIME_LIMIT (((int64_t)1 << 62) - 1)
#define WIDEST 64 /* queues in one answer */

/* The tables of a builder, in the order of the tuple it gives; all references are borrowed from it. */
typedef struct {
    PyObject *events, *sends, *reads, *offsets, *values; /* bytearrays */
    PyObject *open, *retired, *held;
    names names[TABLES];
} state;

/* An answer's messages: of each queue its name, and the (offset, value) from `start` to `stop`. */
typedef struct {
    int64_t offset;
    const char *text;
    uint32_t length;
} entry;

typedef struct {
    struct {
        const char *text;
        uint32_t length;
        int64_t start, stop;
    } queues[WIDEST];
    int count;
    entry *entries;
    int64_t used, room;
} answer;

static int is(const cell *c, const char *word) {
    return c->kind == TEXT && c->length == strlen(word) && !memcmp(c->text, word, c->length);
}

static int same(const cell *one, const cell *other) {
    return one->kind == TEXT && other->kind == TEXT && one->length == other->length &&
           !memcmp(one->text, other->text, one->length);
}

static int known_type(const cell *c) {
    return is(c, "invoke") ? INVOKE : is(c, "ok") ? OK : is(c, "fail") ? FAIL : is(c, "info") ? INFO : -1;
}

static int known_f(const cell *c) {
    return is(c, "send") || is(c, "append") ? SEND
           : is(c, "poll")                  ? POLL
           : is(c, "handle")                ? HANDLE
           : is(c, "drain")                 ? DRAIN
           : is(c, "read")                  ? READ
                                            : NO_READ;
}

/* The first of two texts that is there and not empty, as Python's `or` finds it. */
static const cell *either(const cell *one, const cell *other) {
    return one->kind == TEXT && one->length ? one : other;
}

static int64_t number_or(const cell *c, int64_t otherwise) { return is_null(c) ? otherwise : c->number; }

static int true_of(const cell *one, const cell *other) { return one->number || other->number; }

/* The number of a name in one of the tables, -1 for null. */
static int name(state *s, int which, const cell *c, int64_t *number) {
    *number = -1;
    if (c->kind != TEXT) return 1;
    if (which == VALUES || which == KEYS) return number_of(&s->names[which], c->text, c->length, number);
    return few_number_of(&s->names[which], c->text, c->length, number);
}

static int add_event(state *s, const cell *e, int type, int64_t partner) {
    int64_t f;
    if (!name(s, FUNCTIONS, &e[F], &f)) return 0;
    const int64_t row[] = {e[TIME].number, e[PROCESS].number, type, f, partner};
    return append(s->events, row, sizeof row);
}

static int invoke(state *s, const cell *e, PyObject *process, const char *line, Py_ssize_t size) {
    PyObject *kept = Py_BuildValue("Ly#", (long long)e[INDEX].number, line, size);
    int done = kept && add_event(s, e, INVOKE, -1) && PyDict_SetItem(s->open, process, kept) == 0;
    Py_XDECREF(kept);
    return done;
}

static int add_send(state *s, const cell *a, const cell *e) {
    int64_t value, asked, key, queue, status, ack, node;
    if (!name(s, VALUES, &a[VALUE], &value) || !name(s, QUEUE_NAMES, &a[QUEUE], &asked) ||
        !name(s, KEYS, &a[KEY], &key) || !name(s, QUEUE_NAMES, either(&e[QUEUE], &a[QUEUE]), &queue) ||
        !name(s, STATUSES, &e[STATUS], &status) || !name(s, ACKS, &e[ACK], &ack) || !name(s, NODES, &e[NODE], &node))
        return 0;
    const int64_t attempts = number_or(&e[ATTEMPTS], 0);
    const int64_t row[] = {
        value, a[INDEX].number, a[PROCESS].number, asked, true_of(&e[SENTINEL], &a[SENTINEL]),
        number_or(&a[INTENDED], -1), key, 0, e[INDEX].number, OK, queue, number_or(&e[OFFSET], -1), status, ack,
        number_or(&e[FLUSHED], -1), node, number_or(&e[EPOCH], -1), attempts ? attempts : 1, -1,
    };
    return append(s->sends, row, sizeof row);
}

static int add_entry(answer *x, const cell *offset, const cell *value) {
    if (x->used == x->room) {
        int64_t room = x->room ? 2 * x->room : 64;
        entry *entries = PyMem_Realloc(x->entries, (size_t)room * sizeof *entries);
        if (!entries) return PyErr_NoMemory(), -1;
        x->entries = entries;
        x->room = room;
    }
    x->entries[x->used++] = (entry){offset->number, value->text, value->length};
    return 1;
}

/* [[offset, value], ...]. Returns 1, 0 where it is not plain, -1 with an error set. */
static int read_batch(cursor *c, answer *x) {
    if (*c->at++ != '[') return 0;
    space(c);
    if (*c->at == ']') return c->at++, 1;
    for (;;) {
        cell offset, value;
        if (*c->at++ != '[') return 0;
        space(c);
        if (!read_cell(c, &offset) || offset.kind != WHOLE) return 0;
        space(c);
        if (*c->at++ != ',') return 0;
        space(c);
        if (!read_cell(c, &value) || value.kind != TEXT) return 0;
        space(c);
        if (*c->at++ != ']') return 0;
        int added = add_entry(x, &offset, &value);
        if (added != 1) return added;
        space(c);
        if (*c->at == ']') return c->at++, 1;
        if (*c->at++ != ',') return 0;
        space(c);
    }
}

static int has_queue(const answer *x, const char *text, uint32_t length) {
    for (int i = 0; i < x->count; i++)
        if (x->queues[i].length == length && !memcmp(x->queues[i].text, text, length)) return 1;
    return 0;
}

static int add_queue(answer *x, const char *text, uint32_t length) {
    if (x->count == WIDEST || has_queue(x, text, length)) return 0;
    x->queues[x->count].text = text;
    x->queues[x->count].length = length;
    x->queues[x->count].start = x->queues[x->count].stop = x->used;
    x->count++;
    return 1;
}

/* {queue: [[offset, value], ...], ...}; the value itself is whole, since it was passed over before. */
static int read_answer(const cell *value, const char *end, answer *x) {
    cursor c = {value->text, value->text, end};
    if (*c.at++ != '{') return 0;
    space(&c);
    if (*c.at == '}') return 1;
    for (;;) {
        cell queue;
        if (!read_cell(&c, &queue) || queue.kind != TEXT || !add_queue(x, queue.text, queue.length)) return 0;
        space(&c);
        if (*c.at++ != ':') return 0;
        space(&c);
        int taken = read_batch(&c, x);
        if (taken != 1) return taken;
        x->queues[x->count - 1].stop = x->used;
        space(&c);
        if (*c.at == '}') return 1;
        if (*c.at++ != ',') return 0;
        space(&c);
    }
}

static int mode_of(const cell *mode) { return is(mode, "assign") ? 1 : is(mode, "subscribe") ? 2 : 0; }

static int hold(PyObject *held, int64_t queue) {
    PyObject *number = PyLong_FromLongLong(queue);
    int done = number && PySet_Add(held, number) == 0;
    Py_XDECREF(number);
    return done;
}

static int add_reads(state *s, const cell *a, const cell *e, int kind, PyObject *process, const answer *x) {
    int64_t group, node, numbers;
    PyObject *held = PyDict_GetItemWithError(s->held, process);
    if (held) {
        Py_INCREF(held);
    } else {
        if (PyErr_Occurred() || !(held = PySet_New(NULL))) return 0;
        if (PyDict_SetItem(s->held, process, held) < 0) return Py_DECREF(held), 0;
    }
    int done = 1;
    for (int i = 0; done && i < x->count; i++) {
        const cell queue_name = {TEXT, 0, x->queues[i].text, x->queues[i].length};
        const int64_t start = PyByteArray_Size(s->offsets) / (Py_ssize_t)sizeof(int64_t);
        int64_t queue;
        done = name(s, QUEUE_NAMES, &queue_name, &queue);
        for (int64_t at = x->queues[i].start; done && at < x->queues[i].stop; at++) {
            const entry *one = &x->entries[at];
            done = number_of(&s->names[VALUES], one->text, one->length, &numbers);
            const int32_t value = (int32_t)numbers;
            done = done && append(s->offsets, &one->offset, sizeof one->offset) &&
                   append(s->values, &value, sizeof value);
        }
        done = done && name(s, GROUPS, either(&e[GROUP], &a[GROUP]), &group) && name(s, NODES, &e[NODE], &node);
        if (!done) break;
        const int64_t round = number_or(&e[ROUND], 0);
        const int64_t row[] = {
            a[INDEX].number, e[INDEX].number, OK, kind, e[PROCESS].number, queue, start,
            start + x->queues[i].stop - x->queues[i].start, mode_of(either(&e[MODE], &a[MODE])), 0, group, node, -1,
            round ? round : number_or(&a[ROUND], 0), e[COMPLETE].number,
            e[SENTINEL].kind == WHOLE ? e[SENTINEL].number : -1, true_of(&e[FILTERED], &a[FILTERED]),
            true_of(&e[ORDERLY], &a[ORDERLY]),
        };
        done = append(s->reads, row, sizeof row) && hold(held, queue);
    }
    Py_DECREF(held);
    return done;
}

/* Returns 1, 0 where the completion of a read is not plain, -1 with an error set. */
static int complete_read(state *s, const cell *a, const cell *e, int kind, PyObject *process, const char *end,
                         const char *asked_end, answer *x) {
    const int told = kind == HANDLE && is_null(&e[VALUE]); /* what it handles, when it was invoked */
    const cell *value = told ? &a[VALUE] : &e[VALUE];
    x->count = 0;
    x->used = 0;
    if (kind == READ && (!is_null(&a[KEY]) || a[VALUE].kind == OTHER)) return 0;
    if (e[MOVED].number || !(is_null(value) || value->kind == OTHER)) return 0;
    if (!is_null(value)) {
        int taken = read_answer(value, told ? asked_end : end, x);
        if (taken != 1) return taken;
    }
    const cell *single = either(&e[QUEUE], &a[QUEUE]);
    if (single->kind == TEXT && single->length && !has_queue(x, single->text, single->length) &&
        !add_queue(x, single->text, single->length))
        return 0;
    return add_event(s, e, OK, a[INDEX].number) && add_reads(s, a, e, kind, process, x) ? 1 : -1;
}

static int complete(state *s, const cell *e, PyObject *process, const char *end, answer *x) {
    cell a[MEMBERS];
    char *line;
    Py_ssize_t size;
    PyObject *kept = PyDict_GetItemWithError(s->open, process);
    if (!kept) return PyErr_Occurred() ? -1 : 0;
    PyObject *text = PyTuple_Size(kept) == 2 ? PyTuple_GetItem(kept, 1) : NULL;
    if (!text) return -1;
    if (!PyBytes_Check(text)) return 0; /* an invocation that was not plain itself */
    if (PyBytes_AsStringAndSize(text, &line, &size) < 0) return -1;
    cursor c = {line, line, line + size};
    if (!read_object(&c, table, MEMBERS, a)) return 0;
    const int f = known_f(&e[F]);
    if (!same(&a[F], &e[F]) || f == NO_READ) return 0;
    int taken = 0;
    if (f != SEND) {
        taken = complete_read(s, a, e, f, process, end, c.end, x);
    } else if (a[VALUE].kind == TEXT && (is_null(&e[VALUE]) || same(&a[VALUE], &e[VALUE]))) {
        taken = add_event(s, e, OK, a[INDEX].number) && add_send(s, a, e) ? 1 : -1;
    }
    if (taken == 1 && PyDict_DelItem(s->open, process) < 0) taken = -1;
    return taken;
}

/* Returns 1, 0 where the event is not plain (nothing was touched), -1 with an error set. */
static int take_event(state *s, cursor *c, int64_t index, int64_t *time, answer *x) {
    cell e[MEMBERS];
    const char *line = c->at;
    if (!read_object(c, table, MEMBERS, e)) return 0;
    const Py_ssize_t size = c->at - line;
    if (!end_of_line(c)) return 0;
    for (int i = INDEX; i <= F; i++)
        if (e[i].kind == ABSENT) return 0;
    if (e[INDEX].number != index || e[TIME].number < *time || e[TIME].number > TIME_LIMIT) return 0;
    if (e[PROCESS].number < 0 || e[PROCESS].number > INT32_MAX) return 0;
    const int type = known_type(&e[TYPE]);
    if ((type != INVOKE && type != OK) || e[OFFSET].number < 0) return 0;
    PyObject *process = PyLong_FromLongLong(e[PROCESS].number);
    if (!process) return -1;
    int taken = PySet_Contains(s->retired, process);
    if (taken == 0) {
        if (type == OK) {
            taken = complete(s, e, process, c->at, x);
        } else {
            const int busy = PyDict_Contains(s->open, process);
            taken = busy ? (busy < 0 ? -1 : 0) : invoke(s, e, process, line, size) ? 1 : -1;
        }
    } else if (taken == 1) {
        taken = 0;
    }
    Py_DECREF(process);
    if (taken == 1) *time = e[TIME].number;
    return taken;
}

static int open_state(PyObject *given, state *s) {
    PyObject **const single[] = {&s->events, &s->sends, &s->reads, &s->offsets, &s->values, &s->open, &s->retired,
                                 &s->held};
    const int singles = sizeof single / sizeof *single;
    memset(s, 0, sizeof *s);
    if (PyTuple_Size(given) != singles + 2 * TABLES) {
        if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "not the tables of a builder");
        return 0;
    }
    for (int i = 0; i < singles; i++) *single[i] = PyTuple_GetItem(given, i);
    for (int i = 0; i < TABLES; i++) {
        s->names[i].dict = PyTuple_GetItem(given, singles + 2 * i);
        s->names[i].list = PyTuple_GetItem(given, singles + 2 * i + 1);
    }
    return 1;
}

PyObject *take_events(PyObject *self, PyObject *args) {
    (void)self;
    PyObject *block, *given;
    Py_ssize_t at, size;
    long long count, time_before;
    char *text;
    state s;
    if (!PyArg_ParseTuple(args, "SnLLO!", &block, &at, &count, &time_before, &PyTuple_Type, &given)) return NULL;
    if (PyBytes_AsStringAndSize(block, &text, &size) < 0 || !open_state(given, &s)) return NULL;
    if (at < 0 || at > size) at = size;
    cursor c = {text, text + at, text + size};
    int64_t time = time_before;
    answer x = {.entries = NULL};
    int taken = 1;
    while (taken == 1 && c.at < c.end) {
        const char *begin = c.at;
        taken = take_event(&s, &c, count, &time, &x);
        count += taken == 1;
        if (!taken) c.at = begin;
    }
    PyMem_Free(x.entries);
    return taken < 0 ? NULL : Py_BuildValue("nLL", (Py_ssize_t)(c.at - c.text), count, (long long)time);
}

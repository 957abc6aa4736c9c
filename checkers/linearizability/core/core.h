/* The compiled part of the linearizability engine. No Python object in here except in module.c and, for models written
 * in Python, behind the two hooks of a search. Every allocation is checked; no array is sized by a recorded id or time.
 */
#ifndef BROKERLAB_CORE_H
#define BROKERLAB_CORE_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NEVER ((int64_t)1 << 62)
#define NULL_ID INT64_MIN
#define NONE UINT32_MAX
#define ROWS_MAX ((int64_t)1 << 30)

enum code {
    READ, WRITE, CAS, CAS_FAILED, APPEND, ENQUEUE, DEQUEUE, EMPTY, LOG_READ, LOG_END, ADD, SET_READ, DRAIN, TRANSACTION
};

/* What a decider returns: OK, or why it has no verdict. */
enum status { DONE = 0, NO_MEMORY = -1, AMBIGUOUS = -2, INTERRUPTED = -3 };

/* order.c: events in the order of time, a call before a return of the same time. event = row << 1 | is_return */
int order_events(const int64_t *call, const int64_t *ret, int64_t n, uint32_t **events, int64_t *count);
/* Sorts keys with their indices, ascending and stable. */
typedef struct {
    int64_t key;
    uint32_t index;
} keyed;
int sort_keyed(keyed *items, int64_t n);

/* order.c: numbers for ids of any size, dense from 0 in order of first sight. */
typedef struct {
    int64_t *keys;
    uint32_t *numbers;
    uint64_t mask;
    uint32_t count;
    /* ids in a narrow range are numbered by a plain table */
    int64_t low;
    uint64_t span;
    uint32_t *direct;
} ids;
int ids_open(ids *table, const int64_t *sample, const uint8_t *f, uint8_t wanted, int64_t n);
void ids_close(ids *table);
uint32_t ids_find(const ids *table, int64_t id);
/* Returns the number of an id, a new one if it has none; NONE when memory is out. */
uint32_t ids_number(ids *table, int64_t id);

static inline uint64_t mix(uint64_t x) {
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    x ^= x >> 32;
    x *= UINT64_C(0xd6e8feb86659fd93);
    return x ^ (x >> 32);
}

/* linear.c */
enum queue_count {
    Q_DUPLICATE, Q_UNEXPECTED, Q_PREMATURE, Q_ORDER, Q_LOST, Q_EMPTY, Q_MISSING, Q_TAKERS, Q_RECOVERED, Q_COUNTS
};
int decide_queue(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *a, int64_t n, int ordered,
                 int64_t *counts);
enum log_count { L_CLASH, L_DISAGREE, L_UNWRITTEN, L_HOLE, L_ORDER, L_FUTURE, L_STALE, L_FILLED, L_COUNTS };
int decide_log(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *a, const int64_t *b,
               int64_t n, int64_t *counts);
enum zone_count { Z_UNEXPECTED, Z_FUTURE, Z_OVERLAP, Z_INSIDE, Z_COUNTS };
/* key may be NULL; ambiguous[row] is set to 1 for every row of a key whose writes are not unique. */
int decide_zones(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *a, const int64_t *key,
                 int64_t n, int64_t init, int null_unknown, uint8_t *ambiguous, int64_t *ambiguous_rows,
                 int64_t *counts);

/* search.c */
typedef struct {
    int64_t a, b;       /* register: values; table: class in a; text: index into texts in a */
    uint32_t row, slot; /* slot NONE: outcome unknown, then class is in info */
    uint32_t info;
    uint8_t f, pure;
} op;

typedef struct {
    const char *bytes;
    int64_t length;
    uint64_t hash, power; /* of a rolling hash: hash of the bytes, base to the length */
} text;

typedef struct search search;
typedef struct {
    /* returns the next state, -1 for illegal, -2 for an error */
    int64_t (*step)(void *context, int64_t state, int64_t klass);
    /* returns 0 or 1, -2 for an error; may be NULL */
    int (*reach)(void *context, int64_t state, int64_t klass);
    void *context;
} hooks;
typedef struct {
    size_t used, limit;
    double deadline; /* seconds of the monotonic clock, 0 for none */
    int (*interrupted)(void);
    int64_t first_word; /* configurations that an exact search may take before other attempts have their turns */
} purse;

enum kind { REGISTER, TEXT, TABLE };
enum verdict { UNDECIDED = 0, VALID = 1, INVALID = 2 };

search *search_open(enum kind kind, op *ops, uint32_t n, const uint32_t *events, int64_t m, int64_t init,
                    const text *texts, const hooks *hooks, purse *purse);
/* Runs up to `nodes` configurations further. Returns a verdict, or a status below 0. out_of: memory or time is spent */
int search_run(search *s, int64_t nodes, int *out_of);
void search_close(search *s);
int64_t search_nodes(const search *s);
/* After VALID: the ops in a legal order. After INVALID: see search_failure. */
int search_order(const search *s, uint32_t **order, int64_t *count);
typedef struct {
    int64_t event;     /* index of the furthest event reached */
    uint32_t failing;  /* op that returns there */
    uint32_t last_good; /* row of the last operation linearized before it, NONE for none */
    uint32_t count;    /* configurations there */
} failure;
void search_failure(const search *s, failure *out);
/* Calls back for each of the last configurations: state, linearized open ops (indices), count of them. */
int search_configurations(const search *s, int64_t most,
                          int (*each)(void *context, const search *s, int64_t state, const uint32_t *ops, uint32_t n),
                          void *context);
const text *search_text(const search *s, int64_t state);
double now_seconds(void);
#endif

/* What the parts of a search share: its state, one step of its model, and moving through the events. */
#ifndef BROKERLAB_SEARCH_H
#define BROKERLAB_SEARCH_H

#include "core.h"

#define CLASS_BIT 0x80000000u /* in a line: a class of operations of unknown outcome, not an operation */

enum mode { GREEDY, ENDLESS, EXACT, BREADTH };
/* The candidate to try first: what leads where the returning operation wants to be, then by ... BORROW uses an operation
 * of unknown outcome that leads there before others that do not. */
enum order { AIMED, BY_SLOT, SOONEST, LATEST, ORDERS, BORROW };
#define TURNS 7 /* attempts that take turns where there are operations of unknown outcome */

typedef struct {
    uint32_t sample, total, word, shift;
    uint32_t available;
    uint64_t most; /* as many as fit into the field */
    int64_t to;    /* of kind REGISTER: the value it makes */
} info_class;

typedef struct {
    int64_t state;
    uint64_t key; /* class << 1 | is_reach */
    int64_t answer;
} cached;

struct search {
    enum kind kind;
    op *ops;
    uint32_t n;
    const uint32_t *events;
    int64_t m;
    const text *texts;
    const hooks *hooks;
    purse *purse;
    size_t used; /* what this search has taken from the purse */

    uint32_t most_open; /* operations at once, of known outcome */
    uint32_t mw, cw, classes; /* words of a mask, words of the counts, classes of unknown operations */
    info_class *infos;
    uint64_t *guards;
    uint32_t *slot_op, *returns; /* of a slot and of an operation; in one block, as are the masks and the counts */

    int64_t at; /* position in events */
    uint64_t *active, *pure, *mask, *risky, *counts;
    int64_t risky_at; /* `risky` are the operations open here that want a value which no operation called later makes */
    int64_t state;
    uint32_t *line; /* what was linearized so far, in order: ops, or CLASS_BIT | class */
    int64_t line_n, line_room;

    uint64_t *frames;
    int64_t depth, frames_room;
    uint64_t *memo;
    int64_t memo_n, memo_room;
    uint32_t *cells;
    uint64_t cells_mask, cells_used;

    text *states; /* of kind TEXT */
    int64_t states_n, states_room;
    uint32_t *state_cells;
    uint64_t state_mask;
    uint32_t *next_read, *next_put;
    int64_t info_put;
    uint32_t *last_source; /* of kind REGISTER: where the last operation before a return is called that makes what it wants */

    cached *cache;
    uint64_t cache_mask, cache_used;

    struct breadth *breadth; /* NULL until an attempt in breadth was begun */

    enum mode mode;
    enum order order;
    uint32_t turn;
    int endless_done;
    int64_t bound, bound_end; /* of configurations in this turn; where the turn ends */
    int64_t init, nodes, ticks, far, moved; /* far: the furthest event; moved: the configuration that got there */
    uint32_t far_last;
    int started, verdict;
};

/* state.c */
void hold(search *s, size_t bytes);
void let_go(search *s, size_t bytes);
void *take(search *s, size_t count, size_t size);
int enlarge_now(search *s, void **p, int64_t *room, int64_t wanted, size_t size);
int same_bytes(const text *x, const text *y);
int64_t text_state(search *s, const text *front, const text *back);
int64_t asked(search *s, int64_t state, int64_t klass, int reach);

/* moves.c */
int append_line(search *s, uint32_t what);
int eager(search *s);
int advance(search *s);
void go_back(search *s, int64_t to);
int hopeless(search *s);

/* search.c: DONE, INTERRUPTED, or what has run out, which is then also in out_of. */
int spent(search *s, int *out_of);

/* breadth.c: VALID, UNDECIDED (goes on with the next call), INVALID when it gave up, or a status. */
int explore_in_breadth(search *s, int64_t stop, int *out_of);
void breadth_close(search *s);

static inline int has(const uint64_t *mask, uint32_t slot) { return (int)(mask[slot >> 6] >> (slot & 63) & 1); }
static inline void set(uint64_t *mask, uint32_t slot) { mask[slot >> 6] |= UINT64_C(1) << (slot & 63); }
static inline void unset(uint64_t *mask, uint32_t slot) { mask[slot >> 6] &= ~(UINT64_C(1) << (slot & 63)); }

static inline int enlarge(search *s, void **p, int64_t *room, int64_t wanted, size_t size) {
    return wanted <= *room ? DONE : enlarge_now(s, p, room, wanted, size);
}

/* A few words, too few to be worth a call of memcpy. */
static inline void copy_words(uint64_t *to, const uint64_t *from, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] = from[i];
}

static inline int same_words(const uint64_t *x, const uint64_t *y, int64_t n) {
    uint64_t differing = 0;
    for (int64_t i = 0; i < n; i++) differing |= x[i] ^ y[i];
    return !differing;
}

static inline int wants(const op *o) { return o->f == READ || o->f == CAS; }

/* The value that a write or a compare-and-set of a register makes. */
static inline int64_t made_by(const op *o) { return o->f == WRITE ? o->a : o->b; }

static inline int leads_to(const op *o, int64_t value) { return (o->f == WRITE || o->f == CAS) && made_by(o) == value; }

/* One step of the model: 1 legal, 0 illegal, below 0 a status. */

static inline int step(search *s, int64_t state, const op *o, int64_t *next) {
    if (s->kind == REGISTER) {
        switch (o->f) {
        case READ:
            *next = state;
            return o->a == state;
        case WRITE:
            *next = o->a;
            return 1;
        case CAS:
            *next = o->b;
            return o->a == state;
        default: /* CAS_FAILED */
            *next = state;
            return o->a != state;
        }
    }
    if (s->kind == TEXT) {
        static const text empty = {"", 0, 0, 1};
        const text *value = s->texts + o->a;
        if (o->f == READ) {
            *next = state;
            return same_bytes(s->states + state, value);
        }
        text now = o->f == APPEND ? s->states[state] : empty;
        *next = text_state(s, &now, value);
        return *next < 0 ? NO_MEMORY : 1;
    }
    int64_t answer = asked(s, state, o->a, 0);
    if (answer < -1) return answer == INTERRUPTED ? INTERRUPTED : NO_MEMORY;
    *next = answer;
    return answer >= 0;
}

#endif

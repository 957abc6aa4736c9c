/* An attempt in breadth: all events once, with a few configurations side by side instead of one and a way back.
 *
 * Depth first finds a legal order in about as many steps as there are operations, or gets lost for ages, most of all
 * where an operation of unknown outcome was used too early and is missing far behind. Side by side, those that used few
 * of them are kept. Only so many are kept (`width`), so what dies here says nothing, but what reaches the end is legal.
 * When all have died, the attempt goes back some events and is wider for a while; each time it dies there again, further
 * back and wider still.
 */
#include "search.h"

#define WIDTH 4    /* of the first attempt; later ones begin wider */
#define SMALL 10   /* where no more than so many are open at once, half the width does */
#define WIDTH_MAX 4096
#define SPACING 32 /* events between layers that are remembered */
#define BACK 64    /* events to go back at first */
#define FEW(width) (((width) + 1) / 2)
#define FURTHER 32 /* so many more each time */
#define PRICE 4    /* of an operation of unknown outcome; of one that was missing where all died, more */

/* state | price paid for operations of unknown outcome << 32 + step | mask | counts */
#define WORDS(s) ((int64_t)(2 + (s)->mw + (s)->cw))

typedef struct {
    uint64_t *words;
    int64_t n, room;
} pile;

typedef struct {
    uint32_t before, what;
} step_taken;

typedef struct {
    int64_t at, from, n, steps_n;
} layer_kept;

struct breadth {
    pile layer, next, queue, kept_words;
    layer_kept *kept;
    int64_t kept_n, kept_room;
    step_taken *steps;
    int64_t steps_n, steps_room;
    uint32_t *cells; /* of configurations of one expansion: index in next << 1 | 1, in queue << 1 */
    uint32_t cells_mask, cells_used, cells_room; /* fewer are used than there is room for after a wide stretch */
    uint64_t *scratch;
    uint32_t *prices; /* of each class of operations of unknown outcome */
    int64_t width, base, until, back, died;
};

void breadth_close(search *s) {
    struct breadth *b = s->breadth;
    if (!b) return;
    free(b->layer.words);
    free(b->next.words);
    free(b->queue.words);
    free(b->kept_words.words);
    free(b->kept);
    free(b->steps);
    free(b->cells);
    free(b->scratch);
    free(b->prices);
    free(b);
    s->breadth = NULL;
}

static uint64_t *at_place(const search *s, const pile *p, int64_t i) { return p->words + i * WORDS(s); }

static int push(search *s, pile *p, const uint64_t *config) {
    if (enlarge(s, (void **)&p->words, &p->room, (p->n + 1) * WORDS(s), sizeof *p->words) != DONE) return NO_MEMORY;
    copy_words(at_place(s, p, p->n++), config, WORDS(s));
    return DONE;
}

static int note(search *s, uint64_t *config, uint32_t what) {
    struct breadth *b = s->breadth;
    if (b->steps_n >= (int64_t)NONE ||
        enlarge(s, (void **)&b->steps, &b->steps_room, b->steps_n + 1, sizeof *b->steps) != DONE)
        return NO_MEMORY;
    b->steps[b->steps_n] = (step_taken){(uint32_t)config[1], what};
    config[1] = (config[1] >> 32 << 32) | (uint64_t)b->steps_n++;
    return DONE;
}

static uint64_t hash_of(const search *s, const uint64_t *config) {
    uint64_t h = config[0] * UINT64_C(0x9e3779b97f4a7c15);
    for (uint32_t w = 0; w < s->mw; w++) h = mix(h) + config[2 + w];
    return mix(h);
}

/* Finds the configuration that differs from this one in counts at most, NULL if there is none; and its cell. */
static uint64_t *twin_of(const search *s, const uint64_t *config, uint32_t *cell) {
    const struct breadth *b = s->breadth;
    for (*cell = (uint32_t)hash_of(s, config) & b->cells_mask; b->cells[*cell] != NONE;
         *cell = (*cell + 1) & b->cells_mask) {
        uint64_t *old = at_place(s, b->cells[*cell] & 1 ? &b->next : &b->queue, b->cells[*cell] >> 1);
        if (old[0] == config[0] && same_words(old + 2, config + 2, s->mw)) return old;
    }
    return NULL;
}

/* Adds a configuration that is not there yet, to the cell that was found for it. */
static int add(search *s, pile *to, const uint64_t *config, uint32_t cell) {
    struct breadth *b = s->breadth;
    b->cells[cell] = (uint32_t)to->n << 1 | (to == &b->next);
    if (push(s, to, config) != DONE) return NO_MEMORY;
    if (2 * ++b->cells_used <= b->cells_mask) return DONE;
    uint32_t mask = 2 * b->cells_mask + 1;
    uint32_t *cells = malloc(((size_t)mask + 1) * sizeof *cells);
    if (!cells) return NO_MEMORY;
    memset(cells, 0xff, ((size_t)mask + 1) * sizeof *cells);
    for (uint32_t i = 0; i <= b->cells_mask; i++) {
        if (b->cells[i] == NONE) continue;
        const uint64_t *old = at_place(s, b->cells[i] & 1 ? &b->next : &b->queue, b->cells[i] >> 1);
        uint32_t c = (uint32_t)hash_of(s, old) & mask;
        while (cells[c] != NONE) c = (c + 1) & mask;
        cells[c] = b->cells[i];
    }
    hold(s, ((size_t)mask + 1) * sizeof *cells);
    let_go(s, b->cells_room * sizeof *cells);
    free(b->cells);
    b->cells = cells;
    b->cells_mask = mask;
    b->cells_room = mask + 1;
    return DONE;
}

static int begin(search *s) {
    if (!s->breadth) {
        struct breadth *b = s->breadth = calloc(1, sizeof *b);
        if (!b) return NO_MEMORY;
        b->cells_room = 256;
        b->cells_mask = b->cells_room - 1;
        b->cells = take(s, b->cells_room, sizeof *b->cells);
        b->scratch = take(s, (size_t)WORDS(s), sizeof *b->scratch);
        b->prices = take(s, s->classes, sizeof *b->prices);
        if (!b->cells || !b->scratch || !b->prices) return NO_MEMORY;
        for (uint32_t c = 0; c < s->classes; c++) b->prices[c] = PRICE;
    }
    struct breadth *b = s->breadth;
    b->base = b->base ? 2 * b->base : s->most_open > SMALL ? WIDTH : WIDTH / 2;
    b->width = b->base;
    b->until = b->died = -1;
    b->back = BACK;
    b->kept_n = b->kept_words.n = b->layer.n = 0;
    b->steps_n = 1; /* 0: nothing was done yet */
    memset(b->scratch, 0, (size_t)WORDS(s) * sizeof *b->scratch);
    b->scratch[0] = (uint64_t)s->init;
    if (enlarge(s, (void **)&b->steps, &b->steps_room, 1, sizeof *b->steps) != DONE) return NO_MEMORY;
    return push(s, &b->layer, b->scratch);
}

/* Linearizes pure operations of a configuration that are legal in it. */
static int settle(search *s, uint64_t *config) {
    for (uint32_t w = 0; w < s->mw; w++)
        for (uint64_t bits = s->active[w] & s->pure[w] & ~config[2 + w]; bits; bits &= bits - 1) {
            uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits), o = s->slot_op[slot];
            int64_t next;
            int legal = step(s, (int64_t)config[0], s->ops + o, &next);
            if (legal < 0) return legal;
            if (!legal) continue;
            set(config + 2, slot);
            if (note(s, config, o) != DONE) return NO_MEMORY;
        }
    return DONE;
}

/* The configuration in scratch that is one operation further: 1 done, 0 illegal or without effect. */
static int further(search *s, const uint64_t *from, uint32_t what, uint32_t slot) {
    struct breadth *b = s->breadth;
    const info_class *k = what & CLASS_BIT ? s->infos + (what & ~CLASS_BIT) : NULL;
    int64_t next;
    int legal = step(s, (int64_t)from[0], s->ops + (k ? k->sample : what), &next);
    if (legal <= 0 || (k && next == (int64_t)from[0])) return legal < 0 ? legal : 0;
    uint64_t *config = b->scratch;
    copy_words(config, from, WORDS(s));
    config[0] = (uint64_t)next;
    if (k) {
        config[2 + s->mw + k->word] += UINT64_C(1) << k->shift;
        config[1] += (uint64_t)b->prices[what & ~CLASS_BIT] << 32;
    } else {
        set(config + 2, slot);
    }
    if (note(s, config, what) != DONE) return NO_MEMORY;
    int status = settle(s, config);
    return status == DONE ? 1 : status;
}

static int leads_nowhere(search *s, const uint64_t *config) {
    s->state = (int64_t)config[0];
    copy_words(s->mask, config + 2, s->mw);
    copy_words(s->counts, config + 2 + s->mw, s->cw);
    return hopeless(s);
}

/* Goes on from a configuration by one operation, to `next` if the one that returns is linearized then. Of two that
 * differ in counts only, the cheaper stays. */
static int go(search *s, const uint64_t *from, uint32_t what, uint32_t slot, uint32_t own) {
    struct breadth *b = s->breadth;
    int64_t before = b->steps_n;
    int status = further(s, from, what, slot);
    if (status > 0) {
        uint32_t cell;
        const uint64_t *config = b->scratch;
        uint64_t *twin = twin_of(s, config, &cell);
        int useless = twin && twin[1] >> 32 <= config[1] >> 32; /* half of them: looked up before looking ahead */
        s->nodes++;
        if (!useless && (useless = leads_nowhere(s, config)) < 0) return useless;
        if (!useless) {
            if (!twin) return add(s, has(config + 2, own) ? &b->next : &b->queue, config, cell);
            copy_words(twin, config, WORDS(s));
            return DONE;
        }
    }
    b->steps_n = before;
    return status < 0 ? status : DONE;
}

static int enough(const search *s, int64_t wanted) {
    const struct breadth *b = s->breadth;
    return b->next.n >= wanted || b->queue.n >= 16 * b->width;
}

/* One operation of unknown outcome after each configuration that waits, if it leads to `aim` (or anywhere). */
static int borrow(search *s, uint32_t own, int64_t end, int aimed, int64_t aim, int64_t wanted) {
    struct breadth *b = s->breadth;
    for (int64_t i = 0; i < end && !enough(s, wanted); i++)
        for (uint32_t c = 0; c < s->classes; c++) {
            const info_class *k = s->infos + c;
            const uint64_t *from = at_place(s, &b->queue, i);
            if (!k->available || ((from[2 + s->mw + k->word] >> k->shift) & k->most) >= k->available) continue;
            if (aimed && k->to != aim) continue;
            int status = go(s, from, CLASS_BIT | c, 0, own);
            if (status != DONE) return status;
        }
    return DONE;
}

/* From the layer to `next`: what has linearized the operation that returns. */
static int expand(search *s, uint32_t returning, uint32_t own) {
    struct breadth *b = s->breadth;
    const op *t = s->ops + returning;
    while (b->cells_mask > 255 && 16 * b->cells_used < b->cells_mask) b->cells_mask /= 2; /* all are cleared each time */
    b->next.n = b->queue.n = b->cells_used = 0;
    memset(b->cells, 0xff, ((size_t)b->cells_mask + 1) * sizeof *b->cells);
    for (int64_t i = 0; i < b->layer.n; i++) {
        const uint64_t *config = at_place(s, &b->layer, i);
        uint32_t cell;
        if (twin_of(s, config, &cell)) continue;
        if (add(s, has(config + 2, own) ? &b->next : &b->queue, config, cell) != DONE) return NO_MEMORY;
    }
    int64_t wanted = b->width, head = 0;
    int aimed = s->kind == REGISTER && wants(t);
    if (!t->pure) /* the shortest way first */
        for (int64_t i = 0, n = b->queue.n; i < n; i++) {
            int status = go(s, at_place(s, &b->queue, i), returning, own, own);
            if (status != DONE) return status;
        }
    if (enough(s, FEW(wanted))) return DONE;
    for (int round = 0;; round++) {
        for (; head < b->queue.n && !enough(s, wanted); head++) {
            for (uint32_t w = 0; w < s->mw; w++) {
                uint64_t bits = s->active[w] & ~s->pure[w] & ~at_place(s, &b->queue, head)[2 + w];
                for (; bits && !enough(s, wanted); bits &= bits - 1) {
                    uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits);
                    int status = go(s, at_place(s, &b->queue, head), s->slot_op[slot], slot, own);
                    if (status != DONE) return status;
                }
            }
        }
        if (!s->classes || enough(s, FEW(wanted))) break;
        int64_t before = b->queue.n, found = b->next.n;
        int status = borrow(s, own, before, aimed, t->a, wanted);
        if (status == DONE && aimed && !b->next.n && !enough(s, wanted)) status = borrow(s, own, before, 0, 0, wanted);
        if (status != DONE) return status;
        if (b->queue.n == before && b->next.n == found) break;
    }
    return DONE;
}

/* How much a configuration has spent and still has to do: used operations of unknown outcome, and open ones that want a
 * value. A write that is still open is something to draw on. Less is better. */
static int64_t score(const search *s, const uint64_t *config) {
    int64_t waiting = 0;
    for (uint32_t w = 0; w < s->mw; w++) {
        uint64_t open = s->active[w] & ~config[2 + w];
        waiting += __builtin_popcountll(open & s->pure[w]);
        for (uint64_t bits = open & ~s->pure[w]; bits; bits &= bits - 1)
            waiting += s->ops[s->slot_op[w * 64 + (uint32_t)__builtin_ctzll(bits)]].f == WRITE ? -1 : 1;
    }
    return (int64_t)(config[1] >> 32) + waiting;
}

/* Keeps the best of `next` as the layer: those of least score, with the returned operation gone. */
static void keep(search *s, uint32_t own) {
    struct breadth *b = s->breadth;
    pile *p = &b->next;
    int64_t words = WORDS(s);
    if (p->n > b->width) {
        for (int64_t i = 0; i < b->width; i++) {
            int64_t best = i, least = score(s, at_place(s, p, i));
            for (int64_t j = i + 1; j < p->n; j++) {
                int64_t here = score(s, at_place(s, p, j));
                if (here < least) {
                    least = here;
                    best = j;
                }
            }
            if (best != i)
                for (int64_t w = 0; w < words; w++) {
                    uint64_t swap = p->words[i * words + w];
                    p->words[i * words + w] = p->words[best * words + w];
                    p->words[best * words + w] = swap;
                }
        }
        p->n = b->width;
    }
    for (int64_t i = 0; i < p->n; i++) unset(at_place(s, p, i) + 2, own);
    pile old = b->layer;
    b->layer = b->next;
    b->next = old;
}

static int remember(search *s) {
    struct breadth *b = s->breadth;
    if (b->kept_n && s->at - b->kept[b->kept_n - 1].at < SPACING) return DONE;
    if (enlarge(s, (void **)&b->kept, &b->kept_room, b->kept_n + 1, sizeof *b->kept) != DONE) return NO_MEMORY;
    b->kept[b->kept_n++] = (layer_kept){s->at, b->kept_words.n, b->layer.n, b->steps_n};
    for (int64_t i = 0; i < b->layer.n; i++)
        if (push(s, &b->kept_words, at_place(s, &b->layer, i)) != DONE) return NO_MEMORY;
    return DONE;
}

/* All have died at this event: back some events, and wider. 0 when that was tried enough. */
static int retreat(search *s) {
    struct breadth *b = s->breadth;
    if (b->died >= 0 && s->at <= b->until) {
        b->width *= 2;
        b->back += FURTHER;
    } else {
        b->width = 2 * b->base;
        b->back = BACK;
    }
    if (b->width > WIDTH_MAX || !b->kept_n) return 0;
    const op *t = s->ops + (s->events[s->at] >> 1);
    if (s->kind == REGISTER && wants(t))
        for (uint32_t c = 0; c < s->classes; c++)
            if (s->infos[c].to == t->a) b->prices[c] += PRICE / 2;
    b->died = s->at;
    b->until = s->at + b->back;
    while (b->kept_n > 1 && b->kept[b->kept_n - 1].at > b->died - b->back) b->kept_n--;
    const layer_kept *kept = b->kept + b->kept_n - 1;
    go_back(s, kept->at);
    b->layer.n = 0;
    b->kept_words.n = kept->from + kept->n;
    b->steps_n = kept->steps_n;
    for (int64_t i = 0; i < kept->n; i++)
        if (push(s, &b->layer, at_place(s, &b->kept_words, kept->from + i)) != DONE) return NO_MEMORY;
    return 1;
}

static int finish(search *s) {
    struct breadth *b = s->breadth;
    s->line_n = 0;
    for (uint32_t i = (uint32_t)at_place(s, &b->layer, 0)[1]; i; i = b->steps[i].before)
        if (append_line(s, b->steps[i].what) != DONE) return NO_MEMORY;
    for (int64_t i = 0, j = s->line_n - 1; i < j; i++, j--) {
        uint32_t swap = s->line[i];
        s->line[i] = s->line[j];
        s->line[j] = swap;
    }
    return VALID;
}

static int all_have(const search *s, uint32_t slot) {
    const pile *layer = &s->breadth->layer;
    for (int64_t i = 0; i < layer->n; i++)
        if (!has(at_place(s, layer, i) + 2, slot)) return 0;
    return 1;
}

int explore_in_breadth(search *s, int64_t stop, int *out_of) {
    int status;
    if (!s->started) {
        s->started = 1;
        if ((status = begin(s)) != DONE) return status;
    }
    struct breadth *b = s->breadth;
    for (; s->at < s->m; s->at++) {
        if (s->nodes >= stop) return UNDECIDED;
        if ((++s->ticks & 127) == 0 && (status = spent(s, out_of)) != DONE)
            return status == INTERRUPTED ? status : UNDECIDED;
        uint32_t event = s->events[s->at], o = event >> 1;
        const op *it = s->ops + o;
        if (it->slot == NONE) {
            if (!it->pure) s->infos[it->info].available++;
            continue;
        }
        if (!(event & 1)) {
            s->slot_op[it->slot] = o;
            set(s->active, it->slot);
            unset(s->pure, it->slot);
            if (!it->pure) continue;
            set(s->pure, it->slot);
            for (int64_t i = 0; i < b->layer.n; i++) {
                uint64_t *config = at_place(s, &b->layer, i);
                int64_t next;
                int legal = step(s, (int64_t)config[0], it, &next);
                if (legal < 0) return legal;
                if (!legal) continue;
                set(config + 2, it->slot);
                if (note(s, config, o) != DONE) return NO_MEMORY;
            }
            continue;
        }
        if ((status = remember(s)) != DONE) return status;
        s->nodes++;
        if (all_have(s, it->slot)) {
            for (int64_t i = 0; i < b->layer.n; i++) unset(at_place(s, &b->layer, i) + 2, it->slot);
            unset(s->active, it->slot);
            continue;
        }
        if ((status = expand(s, o, it->slot)) != DONE) return status;
        if (!b->next.n) {
            if ((status = retreat(s)) < 0) return status;
            if (!status) return INVALID;
            s->at--;
            continue;
        }
        if (s->at > b->until) b->width = b->base;
        keep(s, it->slot);
        unset(s->active, it->slot);
    }
    return finish(s);
}

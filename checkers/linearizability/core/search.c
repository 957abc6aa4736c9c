/* Just-in-time depth-first search over the window of concurrent operations.
 *
 * A configuration is (position, which open operations are linearized, state, how many operations of each class of
 * unknown outcome were used). Something is linearized only when the event reached is the return of an operation that
 * is not linearized yet; pure operations are linearized the moment they are legal. A configuration is dead if it was
 * seen before with no more operations of unknown outcome used.
 *
 * The order in which candidates are tried makes differences of orders of magnitude, and no order is best everywhere. So
 * attempts take turns, each with another order or mode and a bound that grows from turn to turn. Where there are
 * operations of unknown outcome, the vectors of used ones multiply the configurations; GREEDY takes a configuration for
 * dead whatever was used: what it finds legal is legal. ENDLESS lets every operation of unknown outcome happen again and
 * again from its call on: what it finds illegal is illegal. EXACT decides what these two cannot.
 */
#include "search.h"

#define WIDE 16           /* an attempt in breadth takes so many more configurations than one in depth */
#define PATIENCE 5000      /* configurations without getting further, after which an attempt gives way, at least */
#define WALK_MAX 512      /* how many configurations that differ only in counts are compared */

static const struct {
    enum mode mode;
    enum order order;
} turns[TURNS] = {
    {GREEDY, AIMED}, {BREADTH, AIMED}, {GREEDY, BORROW}, {ENDLESS, AIMED}, {GREEDY, BY_SLOT}, {EXACT, AIMED}, {GREEDY, SOONEST},
};
/* --- memory of dead configurations ----------------------------------------------------------------------------------- */

/* state | position << 32 + next entry | mask | counts */
#define ENTRY(s, i) ((s)->memo + (i) * (int64_t)(2 + (s)->mw + (s)->cw))

static uint64_t entry_hash(const search *s, const uint64_t *entry) {
    uint64_t h = entry[0] * UINT64_C(0x9e3779b97f4a7c15) + (entry[1] >> 32);
    for (uint32_t w = 0; w < s->mw; w++) h = mix(h) + entry[2 + w];
    return mix(h);
}

static int more_cells(search *s) {
    uint64_t mask = 2 * s->cells_mask + 1;
    uint32_t *cells = malloc(((size_t)mask + 1) * sizeof *cells);
    if (!cells) return NO_MEMORY;
    hold(s, ((size_t)s->cells_mask + 1) * sizeof *cells);
    memset(cells, 0xff, ((size_t)mask + 1) * sizeof *cells);
    for (uint64_t i = 0; i <= s->cells_mask; i++) {
        if (s->cells[i] == NONE) continue;
        uint64_t to = entry_hash(s, ENTRY(s, s->cells[i])) & mask;
        while (cells[to] != NONE) to = (to + 1) & mask;
        cells[to] = s->cells[i];
    }
    free(s->cells);
    s->cells = cells;
    s->cells_mask = mask;
    return DONE;
}

/* 1 if a configuration is known to be dead, 0 if it is new: and remembered from now on, if it is to be. */
static int known(search *s, int64_t at, int64_t state, const uint64_t *mask, const uint64_t *counts, int remembered) {
    int64_t words = 2 + s->mw + s->cw;
    if (s->memo_n >= (int64_t)NONE) return NO_MEMORY;
    if (enlarge(s, (void **)&s->memo, &s->memo_room, (s->memo_n + 1) * words, sizeof *s->memo) != DONE)
        return NO_MEMORY;
    uint64_t *fresh = ENTRY(s, s->memo_n);
    fresh[0] = (uint64_t)state;
    fresh[1] = (uint64_t)at << 32 | NONE;
    copy_words(fresh + 2, mask, s->mw);
    copy_words(fresh + 2 + s->mw, counts, s->cw);
    uint64_t cell = entry_hash(s, fresh) & s->cells_mask;
    for (; s->cells[cell] != NONE; cell = (cell + 1) & s->cells_mask) {
        const uint64_t *old = ENTRY(s, s->cells[cell]);
        if (old[0] != fresh[0] || old[1] >> 32 != fresh[1] >> 32 || !same_words(old + 2, fresh + 2, s->mw)) continue;
        if (s->mode != EXACT) return 1;
        uint32_t next = s->cells[cell];
        for (int walked = 0; next != NONE && walked < WALK_MAX; walked++) {
            const uint64_t *spent = ENTRY(s, next) + 2 + s->mw;
            uint32_t w = 0;
            while (w < s->cw && (((counts[w] | s->guards[w]) - spent[w]) & s->guards[w]) == s->guards[w]) w++;
            if (w == s->cw) return 1;
            next = (uint32_t)ENTRY(s, next)[1];
        }
        fresh[1] = (uint64_t)at << 32 | s->cells[cell];
        s->cells[cell] = (uint32_t)s->memo_n++;
        return 0;
    }
    if (!remembered) return 0;
    s->cells[cell] = (uint32_t)s->memo_n++;
    if (2 * ++s->cells_used > s->cells_mask) return more_cells(s);
    return 0;
}

/* --- the search ------------------------------------------------------------------------------------------------------- */

/* position | state | line length << 32 + next class | mask | untried | counts */
#define FRAME_WORDS(s) (3 + 2 * (int64_t)(s)->mw + (s)->cw)

static int enter(search *s) {
    if (s->at > s->far) {
        s->moved = s->nodes;
        s->far = s->at;
        s->far_last = s->line_n ? s->line[s->line_n - 1] : NONE;
    }
    s->nodes++;
    /* Where no outcome is unknown, a configuration cannot come back before it is dead, and most never die. */
    int dead = known(s, s->at, s->state, s->mask, s->counts, s->classes > 0);
    if (dead) return dead < 0 ? dead : DONE;
    int64_t words = FRAME_WORDS(s);
    if (enlarge(s, (void **)&s->frames, &s->frames_room, (s->depth + 1) * words, sizeof *s->frames) != DONE)
        return NO_MEMORY;
    uint64_t *frame = s->frames + s->depth++ * words;
    frame[0] = (uint64_t)s->at;
    frame[1] = (uint64_t)s->state;
    frame[2] = (uint64_t)s->line_n << 32;
    for (uint32_t w = 0; w < s->mw; w++) {
        frame[3 + w] = s->mask[w];
        frame[3 + s->mw + w] = s->active[w] & ~s->pure[w] & ~s->mask[w];
    }
    copy_words(frame + 3 + 2 * s->mw, s->counts, s->cw);
    return DONE;
}

static int choose_info(search *s, uint64_t *frame, int64_t *next, uint32_t *what, int aimed, int64_t aim,
                       int first_round) {
    uint32_t c = (uint32_t)frame[2], end = 2 * s->classes, stop = first_round ? s->classes : end;
    if (!aimed && c < s->classes) c = s->classes;
    for (; c < stop; c++) {
        /* First those that lead where the returning operation wants to be, then the others. Compares come first in
         * the first round, since plain writes are good for more, and last in the other, since a write makes useless
         * what came just before it. */
        const info_class *k = s->infos + (c < s->classes ? c : end - 1 - c);
        if (!k->available || (c < s->classes) != (aimed && k->to == aim)) continue;
        if (s->mode != ENDLESS && ((s->counts[k->word] >> k->shift) & k->most) >= k->available) continue;
        int legal = step(s, s->state, s->ops + k->sample, next);
        if (legal < 0) return legal;
        if (!legal || *next == s->state) continue;
        frame[2] = (frame[2] >> 32 << 32) | (c + 1);
        *what = CLASS_BIT | (uint32_t)(k - s->infos);
        return 1;
    }
    frame[2] = (frame[2] >> 32 << 32) | c;
    return 0;
}

/* Takes the next way on from a frame: 1 found, 0 none left. */
static int choose(search *s, uint64_t *frame, int64_t *next, uint32_t *what) {
    uint64_t *untried = frame + 3 + s->mw;
    uint32_t returning = s->events[frame[0]] >> 1, own = s->ops[returning].slot;
    const op *t = s->ops + returning;
    int aimed = s->kind == REGISTER && (t->f == READ || t->f == CAS);
    if (has(untried, own)) {
        unset(untried, own);
        int legal = step(s, s->state, t, next);
        *what = returning;
        if (legal) return legal;
    }
    for (;;) {
        uint32_t best = NONE, best_slot = 0;
        uint64_t rank = UINT64_MAX;
        for (uint32_t w = 0; w < s->mw; w++)
            for (uint64_t bits = untried[w]; bits; bits &= bits - 1) {
                uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits), o = s->slot_op[slot];
                uint64_t mine = s->order == SOONEST ? s->returns[o] : s->order == LATEST ? ~s->returns[o] : slot;
                if (aimed && s->order != BY_SLOT && !leads_to(s->ops + o, t->a)) mine |= (uint64_t)1 << 32;
                if (mine >= rank) continue;
                rank = mine;
                best = o;
                best_slot = slot;
            }
        if (best == NONE) break;
        if (aimed && s->order == BORROW && rank >> 32 && (uint32_t)frame[2] < s->classes) {
            int found = choose_info(s, frame, next, what, aimed, t->a, 1);
            if (found) return found;
        }
        unset(untried, best_slot);
        *what = best;
        int legal = step(s, s->state, s->ops + best, next);
        if (legal) return legal;
    }
    return choose_info(s, frame, next, what, aimed, t->a, 0);
}

/* Begins again with the next turn. */
static void restart(search *s) {
    do {
        if (++s->turn % TURNS == 0) s->bound *= 4;
        s->mode = s->classes ? turns[s->turn % TURNS].mode : s->turn & 1 ? BREADTH : EXACT;
    } while (s->mode == ENDLESS && s->endless_done);
    s->order = s->classes ? turns[s->turn % TURNS].order : (enum order)(s->turn / 2 % ORDERS);
    s->bound_end = s->nodes + (s->mode == BREADTH ? WIDE * s->bound : s->bound);
    go_back(s, 0);
    s->state = s->init;
    s->line_n = s->depth = s->memo_n = 0;
    memset(s->mask, 0, s->mw * sizeof *s->mask);
    memset(s->counts, 0, s->cw * sizeof *s->counts);
    memset(s->cells, 0xff, ((size_t)s->cells_mask + 1) * sizeof *s->cells);
    s->cells_used = 0;
    s->far = -1;
    s->moved = s->nodes;
    s->far_last = NONE;
    s->started = 0;
}

static int explore(search *s, int64_t stop, int *out_of);

int search_run(search *s, int64_t nodes, int *out_of) {
    *out_of = 0;
    if (s->verdict) return s->verdict;
    int64_t stop = s->nodes > INT64_MAX - nodes ? INT64_MAX : s->nodes + nodes;
    for (;;) {
        int verdict = explore(s, stop < s->bound_end ? stop : s->bound_end, out_of);
        if (verdict == VALID && s->mode == ENDLESS) {
            s->endless_done = 1;
            restart(s);
        } else if (verdict == INVALID && (s->mode == GREEDY || s->mode == BREADTH)) {
            restart(s);
        } else if (verdict == UNDECIDED && !*out_of && s->nodes < stop) {
            restart(s);
        } else {
            return verdict > 0 ? (s->verdict = verdict) : verdict;
        }
    }
}

int spent(search *s, int *out_of) {
    if (s->purse->interrupted && s->purse->interrupted()) return INTERRUPTED;
    if (s->purse->deadline > 0 && now_seconds() > s->purse->deadline) *out_of = 1;
    if (s->purse->limit && s->purse->used > s->purse->limit) *out_of = 2;
    return *out_of;
}

/* Goes on with the present mode until `stop` configurations. */
static int explore(search *s, int64_t stop, int *out_of) {
    int status;
    if (s->mode == BREADTH) return explore_in_breadth(s, stop, out_of);
    if (!s->started) {
        s->started = 1;
        if ((status = advance(s)) != DONE) return status;
        if (s->at == s->m) return VALID;
        if ((status = enter(s)) != DONE) return status;
    }
    int64_t patience = s->bound / 16 > PATIENCE ? s->bound / 16 : PATIENCE;
    while (s->depth) {
        if (s->nodes >= stop) return UNDECIDED;
        if (s->nodes - s->moved > patience) { /* lost: another attempt's turn */
            s->bound_end = s->nodes;
            return UNDECIDED;
        }
        if ((++s->ticks & 1023) == 0 && (status = spent(s, out_of)) != DONE)
            return status == INTERRUPTED ? status : UNDECIDED;
        uint64_t *frame = s->frames + (s->depth - 1) * FRAME_WORDS(s);
        int64_t position = (int64_t)frame[0], next = 0;
        uint32_t what;
        go_back(s, position);
        s->state = (int64_t)frame[1];
        s->line_n = (int64_t)(frame[2] >> 32);
        copy_words(s->mask, frame + 3, s->mw);
        copy_words(s->counts, frame + 3 + 2 * s->mw, s->cw);
        int found = choose(s, frame, &next, &what);
        if (found < 0) return found;
        if (!found) {
            if (!s->classes && (status = known(s, position, s->state, s->mask, s->counts, 1)) < 0) return status;
            s->depth--;
            continue;
        }
        s->state = next;
        if ((what & CLASS_BIT) && s->mode != ENDLESS) {
            const info_class *k = s->infos + (what & ~CLASS_BIT);
            s->counts[k->word] += UINT64_C(1) << k->shift;
        } else if (!(what & CLASS_BIT)) {
            set(s->mask, s->ops[what].slot);
        }
        if ((status = append_line(s, what)) != DONE || (status = eager(s)) != DONE) return status;
        if ((status = hopeless(s)) < 0) return status;
        if (status) continue;
        if (has(s->mask, s->ops[s->events[position] >> 1].slot)) {
            if ((status = advance(s)) != DONE) return status;
            if (s->at == s->m) return VALID;
        }
        if ((status = enter(s)) != DONE) return status;
    }
    return INVALID;
}

int64_t search_nodes(const search *s) { return s->nodes; }

int search_order(const search *s, uint32_t **order, int64_t *count) {
    uint32_t *out = malloc((size_t)(s->line_n + 1) * sizeof *out);
    uint32_t *next = malloc((size_t)(s->n + 1) * sizeof *next), *first = malloc((size_t)(s->classes + 1) * sizeof *first);
    if (!out || !next || !first) {
        free(out);
        free(next);
        free(first);
        return NO_MEMORY;
    }
    memset(first, 0xff, (size_t)(s->classes + 1) * sizeof *first);
    for (int64_t i = s->m - 1; i >= 0; i--) { /* operations of a class, earliest call first */
        uint32_t o = s->events[i] >> 1;
        if (s->ops[o].slot != NONE || s->ops[o].pure) continue;
        next[o] = first[s->ops[o].info];
        first[s->ops[o].info] = o;
    }
    for (int64_t i = 0; i < s->line_n; i++) {
        uint32_t what = s->line[i];
        if (what & CLASS_BIT) {
            uint32_t *head = first + (what & ~CLASS_BIT);
            what = *head;
            *head = next[what];
        }
        out[i] = s->ops[what].row;
    }
    free(next);
    free(first);
    *order = out;
    *count = s->line_n;
    return DONE;
}

void search_failure(const search *s, failure *out) {
    out->event = s->far;
    out->failing = s->far >= 0 ? s->events[s->far] >> 1 : NONE;
    out->last_good = s->far_last;
    if (out->last_good != NONE)
        out->last_good = s->ops[out->last_good & CLASS_BIT ? s->infos[out->last_good & ~CLASS_BIT].sample
                                                           : out->last_good].row;
    out->count = 0;
    for (int64_t i = 0; i < s->memo_n; i++) out->count += (int64_t)(ENTRY(s, i)[1] >> 32) == s->far;
}

int search_configurations(const search *s, int64_t most,
                          int (*each)(void *context, const search *s, int64_t state, const uint32_t *ops, uint32_t n),
                          void *context) {
    uint32_t *open = malloc((size_t)(s->mw * 64 + 1) * sizeof *open), *list = malloc((size_t)(s->mw * 64 + 1) * 4);
    int status = NO_MEMORY;
    if (!open || !list) goto done;
    status = DONE;
    memset(open, 0xff, (size_t)(s->mw * 64 + 1) * sizeof *open);
    for (int64_t i = 0; i < s->far; i++) {
        uint32_t o = s->events[i] >> 1;
        if (s->ops[o].slot != NONE && !(s->events[i] & 1)) open[s->ops[o].slot] = o;
    }
    for (int64_t i = 0; i < s->memo_n && most > 0 && status == DONE; i++) {
        const uint64_t *entry = ENTRY(s, i);
        if ((int64_t)(entry[1] >> 32) != s->far) continue;
        uint32_t n = 0;
        for (uint32_t slot = 0; slot < s->mw * 64; slot++)
            if (has(entry + 2, slot)) list[n++] = open[slot];
        status = each(context, s, (int64_t)entry[0], list, n);
        most--;
    }
done:
    free(open);
    free(list);
    return status;
}

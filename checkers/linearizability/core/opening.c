/* Opening a search: slots for open operations, classes of those of unknown outcome, tables to look ahead. */
#include "search.h"

#define CROWD 5           /* with more open operations than this, it pays to look ahead */
#define CLASSES_PLAIN 16  /* with more unknown operations than this, useless ones are looked for and dropped */

static uint64_t class_hash(const search *s, const op *o) {
    uint64_t value = s->kind == TEXT ? s->texts[o->a].hash : (uint64_t)o->a;
    return mix(value * 31 + mix((uint64_t)o->b) + o->f);
}

static int same_class(const search *s, const op *x, const op *y) {
    if (x->f != y->f || x->b != y->b) return 0;
    return s->kind == TEXT ? same_bytes(s->texts + x->a, s->texts + y->a) : x->a == y->a;
}

/* A value that no operation expects cannot be told from another such value. One stands for all of them, and where no
 * failed compare asks for "some other value", operations of unknown outcome that lead there are useless. */
static int drop_useless(search *s) {
    ids expected;
    int failed = 0, have = 0, status = NO_MEMORY;
    int64_t stand_in = 0;
    if (ids_open(&expected, NULL, NULL, 0, 0) != DONE) return NO_MEMORY;
    for (uint32_t i = 0; i < s->n; i++) {
        if (s->ops[i].f == WRITE) continue;
        failed |= s->ops[i].f == CAS_FAILED;
        if (ids_number(&expected, s->ops[i].a) == NONE) goto done;
    }
    for (uint32_t i = 0; i < s->n; i++) {
        op *o = s->ops + i;
        int64_t *to = o->f == WRITE ? &o->a : o->f == CAS ? &o->b : NULL;
        if (!to || ids_find(&expected, *to) != NONE) continue;
        if (!have) {
            have = 1;
            stand_in = *to;
        }
        *to = stand_in;
        if (o->slot == NONE && !failed) o->pure = 1; /* unknown and pure: never used */
    }
    status = DONE;
done:
    ids_close(&expected);
    return status;
}

/* Numbers the effects of operations of unknown outcome: compares first, then writes, each in the order of rows. */
static int number_classes(search *s, uint32_t unknown) {
    if (!unknown) return DONE;
    uint64_t mask = 15;
    while (mask < 2 * (uint64_t)unknown) mask = 2 * mask + 1;
    uint32_t *cells = malloc(((size_t)mask + 1 + unknown) * sizeof *cells);
    s->infos = take(s, unknown, sizeof *s->infos);
    if (!cells || !s->infos) {
        free(cells);
        return NO_MEMORY;
    }
    uint32_t *rows = cells + mask + 1, rows_n = 0;
    memset(cells, 0xff, ((size_t)mask + 1) * sizeof *cells);
    for (uint32_t i = 0; i < s->n; i++)
        if (s->ops[i].slot == NONE && !s->ops[i].pure) rows[rows_n++] = i;
    for (uint32_t j = 0; j < 2 * rows_n; j++) {
        uint32_t i = rows[j < rows_n ? j : j - rows_n];
        op *o = s->ops + i;
        if ((o->f == WRITE) != (j >= rows_n)) continue;
        uint64_t at = class_hash(s, o) & mask;
        while (cells[at] != NONE && !same_class(s, s->ops + s->infos[cells[at]].sample, o)) at = (at + 1) & mask;
        if (cells[at] == NONE) {
            cells[at] = s->classes;
            s->infos[s->classes].to = made_by(o);
            s->infos[s->classes++].sample = i;
        }
        o->info = cells[at];
        s->infos[o->info].total++;
    }
    free(cells);
    uint32_t word = 0, used = 0;
    for (uint32_t c = 0; c < s->classes; c++) {
        uint32_t width = 1; /* the guard */
        for (uint32_t total = s->infos[c].total; total; total >>= 1) width++;
        if (used + width > 64) {
            word++;
            used = 0;
        }
        s->infos[c].word = word;
        s->infos[c].shift = used;
        s->infos[c].most = (UINT64_C(1) << (width - 1)) - 1;
        used += width;
    }
    s->cw = s->classes ? word + 1 : 0;
    s->guards = take(s, 2 * (size_t)s->cw, sizeof *s->guards);
    if (!s->guards) return NO_MEMORY;
    s->counts = s->guards + s->cw;
    for (uint32_t c = 0; c < s->classes; c++) {
        uint32_t width = 0;
        for (uint32_t total = s->infos[c].total; total; total >>= 1) width++;
        s->guards[s->infos[c].word] |= UINT64_C(1) << (s->infos[c].shift + width);
    }
    return DONE;
}

static int look_ahead(search *s) {
    s->next_read = take(s, (size_t)s->m + 1, sizeof *s->next_read);
    s->next_put = take(s, (size_t)s->m + 1, sizeof *s->next_put);
    if (!s->next_read || !s->next_put) return NO_MEMORY;
    uint32_t read = NONE, put = (uint32_t)s->m;
    s->next_read[s->m] = read;
    s->next_put[s->m] = put;
    s->info_put = s->m;
    for (int64_t i = s->m - 1; i >= 0; i--) {
        uint32_t o = s->events[i] >> 1;
        int is_call = !(s->events[i] & 1);
        if (is_call && s->ops[o].f == READ && s->ops[o].slot != NONE) read = o;
        if (is_call && s->ops[o].f == WRITE) {
            put = (uint32_t)i;
            if (s->ops[o].slot == NONE) s->info_put = i;
        }
        s->next_read[i] = read;
        s->next_put[i] = put;
    }
    return DONE;
}
/* For every operation that wants a value: the last call before its return of an operation that makes the value. */
static int find_sources(search *s) {
    ids numbers;
    uint32_t *last = NULL;
    int64_t room = 0;
    int status = NO_MEMORY;
    s->risky_at = -1;
    if (!(s->last_source = take(s, s->n, sizeof *s->last_source)) || ids_open(&numbers, NULL, NULL, 0, 0) != DONE)
        return NO_MEMORY;
    for (int64_t i = 0; i < s->m; i++) {
        uint32_t o = s->events[i] >> 1;
        const op *it = s->ops + o;
        int is_return = s->events[i] & 1;
        if (is_return ? !wants(it) : it->f != WRITE && it->f != CAS) continue;
        uint32_t v = ids_number(&numbers, is_return ? it->a : made_by(it));
        if (v == NONE) goto done;
        if ((int64_t)v >= room) {
            int64_t bigger = 2 * (int64_t)v + 64;
            uint32_t *more = realloc(last, (size_t)bigger * sizeof *last);
            if (!more) goto done;
            memset(more + room, 0, (size_t)(bigger - room) * sizeof *last);
            last = more;
            room = bigger;
        }
        if (is_return)
            s->last_source[o] = last[v];
        else
            last[v] = (uint32_t)i + 1;
    }
    status = DONE;
done:
    free(last);
    ids_close(&numbers);
    return status;
}
search *search_open(enum kind kind, op *ops, uint32_t n, const uint32_t *events, int64_t m, int64_t init,
                    const text *texts, const hooks *hooks, purse *purse) {
    search *s = calloc(1, sizeof *s);
    if (!s) return NULL;
    s->kind = kind;
    s->ops = ops;
    s->n = n;
    s->events = events;
    s->m = m;
    s->texts = texts;
    s->hooks = hooks;
    s->purse = purse;
    s->far = -1;
    s->far_last = NONE;
    uint32_t open = 0, most = 0, unknown = 0;
    for (int64_t i = 0; i < m; i++) {
        if (events[i] & 1)
            open--;
        else if (ops[events[i] >> 1].slot == NONE)
            unknown++;
        else if (++open > most)
            most = open;
    }
    s->most_open = most;
    s->mw = most > 64 ? (most + 63) / 64 : 1;
    uint32_t *freed = malloc(((size_t)most + 1) * sizeof *freed), free_n = most;
    s->active = take(s, 4 * (size_t)s->mw, sizeof *s->active);
    s->slot_op = take(s, (size_t)most + n, sizeof *s->slot_op);
    if (!freed || !s->active || !s->slot_op) goto failed;
    s->pure = s->active + s->mw;
    s->mask = s->pure + s->mw;
    s->risky = s->mask + s->mw;
    s->returns = s->slot_op + most;
    for (uint32_t i = 0; i < most; i++) freed[i] = most - 1 - i;
    for (int64_t i = 0; i < m; i++) {
        op *o = ops + (events[i] >> 1);
        if (o->slot == NONE) continue;
        if (events[i] & 1) {
            freed[free_n++] = o->slot;
            s->returns[events[i] >> 1] = (uint32_t)i;
        } else
            o->slot = freed[--free_n];
    }
    free(freed);
    freed = NULL;
    if (unknown > CLASSES_PLAIN && kind == REGISTER && drop_useless(s) != DONE) goto failed;
    if (number_classes(s, unknown) != DONE) goto failed;
    if (kind == REGISTER && most > CROWD && find_sources(s) != DONE) goto failed;
    s->cells_mask = 63;
    while (s->cells_mask < (uint64_t)n / 2) s->cells_mask = 2 * s->cells_mask + 1;
    if (s->cells_mask > 4095) s->cells_mask = 4095;
    s->cells = take(s, (size_t)s->cells_mask + 1, sizeof *s->cells);
    if (!s->cells) goto failed;
    memset(s->cells, 0xff, ((size_t)s->cells_mask + 1) * sizeof *s->cells);
    if (kind == TEXT) {
        static const text empty = {"", 0, 0, 1};
        s->state_mask = 63;
        s->state_cells = take(s, 64, sizeof *s->state_cells);
        if (!s->state_cells) goto failed;
        memset(s->state_cells, 0xff, 64 * sizeof *s->state_cells);
        if (look_ahead(s) != DONE || (init = text_state(s, &empty, texts + init)) < 0) goto failed;
    }
    if (kind == TABLE) {
        s->cache_mask = 255;
        s->cache = take(s, 256, sizeof *s->cache);
        if (!s->cache) goto failed;
        for (int i = 0; i < 256; i++) s->cache[i].key = UINT64_MAX;
    }
    s->state = s->init = init;
    s->mode = EXACT;
    s->order = AIMED;
    s->bound = 4 * (int64_t)n + 1000;
    s->bound_end = s->bound;
    if (s->classes) { /* a short history needs no art: the exact way has the first word */
        s->turn = TURNS - 1;
        s->bound /= 4;
        s->bound_end = purse->first_word;
    }
    if (!purse->first_word) s->bound = s->bound_end = 1; /* tests want to see every turn in short histories */
    return s;
failed:
    free(freed);
    search_close(s);
    return NULL;
}

void search_close(search *s) {
    if (!s) return;
    let_go(s, s->used);
    for (int64_t i = 0; i < s->states_n; i++) free((void *)(uintptr_t)s->states[i].bytes);
    free(s->infos);
    free(s->guards);
    free(s->slot_op);
    free(s->active);
    free(s->line);
    free(s->frames);
    free(s->memo);
    free(s->cells);
    free(s->states);
    free(s->state_cells);
    free(s->next_read);
    free(s->next_put);
    free(s->last_source);
    free(s->cache);
    breadth_close(s);
    free(s);
}

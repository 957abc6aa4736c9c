/* Memory of a search, and its states: strings, and the answers of a model written in Python. */
#include "search.h"

#include <time.h>

double now_seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Counts memory that this search holds. */
void hold(search *s, size_t bytes) {
    s->used += bytes;
    s->purse->used += bytes;
}

void let_go(search *s, size_t bytes) {
    s->used -= bytes;
    s->purse->used -= bytes;
}

void *take(search *s, size_t count, size_t size) {
    if (!count) count = 1;
    void *p = calloc(count, size);
    if (p) hold(s, count * size);
    return p;
}

int enlarge_now(search *s, void **p, int64_t *room, int64_t wanted, size_t size) {
    int64_t next = *room ? *room : 256;
    while (next < wanted) next += next / 2 + 16;
    void *bigger = realloc(*p, (size_t)next * size);
    if (!bigger) return NO_MEMORY;
    hold(s, (size_t)(next - *room) * size);
    *p = bigger;
    *room = next;
    return DONE;
}

/* --- texts ------------------------------------------------------------------------------------------------------- */

int same_bytes(const text *x, const text *y) {
    return x->length == y->length && memcmp(x->bytes, y->bytes, (size_t)x->length) == 0;
}

/* Returns the number of the state front + back, -1 when memory is out. */
int64_t text_state(search *s, const text *front, const text *back) {
    text joined = {NULL, front->length + back->length, front->hash * back->power + back->hash,
                   front->power * back->power};
    uint64_t cell = mix(joined.hash + (uint64_t)joined.length) & s->state_mask;
    for (; s->state_cells[cell] != NONE; cell = (cell + 1) & s->state_mask) {
        const text *old = s->states + s->state_cells[cell];
        if (old->hash == joined.hash && old->length == joined.length &&
            memcmp(old->bytes, front->bytes, (size_t)front->length) == 0 &&
            memcmp(old->bytes + front->length, back->bytes, (size_t)back->length) == 0)
            return s->state_cells[cell];
    }
    char *bytes = take(s, (size_t)joined.length + 1, 1);
    if (!bytes || enlarge(s, (void **)&s->states, &s->states_room, s->states_n + 1, sizeof *s->states) != DONE) {
        free(bytes);
        return -1;
    }
    memcpy(bytes, front->bytes, (size_t)front->length);
    memcpy(bytes + front->length, back->bytes, (size_t)back->length);
    joined.bytes = bytes;
    s->state_cells[cell] = (uint32_t)s->states_n;
    s->states[s->states_n++] = joined;
    if (2 * (uint64_t)s->states_n > s->state_mask) {
        uint64_t mask = 2 * s->state_mask + 1;
        uint32_t *cells = take(s, (size_t)mask + 1, sizeof *cells);
        if (!cells) return -1;
        memset(cells, 0xff, ((size_t)mask + 1) * sizeof *cells);
        for (int64_t i = 0; i < s->states_n; i++) {
            uint64_t to = mix(s->states[i].hash + (uint64_t)s->states[i].length) & mask;
            while (cells[to] != NONE) to = (to + 1) & mask;
            cells[to] = (uint32_t)i;
        }
        let_go(s, ((size_t)s->state_mask + 1) * sizeof *cells);
        free(s->state_cells);
        s->state_cells = cells;
        s->state_mask = mask;
    }
    return s->states_n - 1;
}

const text *search_text(const search *s, int64_t state) { return s->kind == TEXT ? s->states + state : NULL; }

/* --- the answers of a model written in Python --------------------------------------------------------------------- */

int64_t asked(search *s, int64_t state, int64_t klass, int reach) {
    uint64_t key = (uint64_t)klass << 1 | (uint64_t)reach;
    uint64_t at = mix((uint64_t)state * UINT64_C(0x9e3779b97f4a7c15) + key) & s->cache_mask;
    for (; s->cache[at].key != UINT64_MAX; at = (at + 1) & s->cache_mask)
        if (s->cache[at].key == key && s->cache[at].state == state) return s->cache[at].answer;
    int64_t answer = reach ? s->hooks->reach(s->hooks->context, state, klass)
                           : s->hooks->step(s->hooks->context, state, klass);
    if (answer == -2) return INTERRUPTED;
    s->cache[at] = (cached){state, key, answer};
    if (2 * ++s->cache_used > s->cache_mask) {
        uint64_t mask = 2 * s->cache_mask + 1;
        cached *bigger = take(s, (size_t)mask + 1, sizeof *bigger);
        if (!bigger) return NO_MEMORY - 10;
        for (uint64_t i = 0; i <= mask; i++) bigger[i].key = UINT64_MAX;
        for (uint64_t i = 0; i <= s->cache_mask; i++) {
            if (s->cache[i].key == UINT64_MAX) continue;
            uint64_t to = mix((uint64_t)s->cache[i].state * UINT64_C(0x9e3779b97f4a7c15) + s->cache[i].key) & mask;
            while (bigger[to].key != UINT64_MAX) to = (to + 1) & mask;
            bigger[to] = s->cache[i];
        }
        let_go(s, ((size_t)s->cache_mask + 1) * sizeof *bigger);
        free(s->cache);
        s->cache = bigger;
        s->cache_mask = mask;
    }
    return answer;
}

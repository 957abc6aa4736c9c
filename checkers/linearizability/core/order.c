/* Ordering events by time and numbering ids: what stands between recorded columns and every decider. */
#include "core.h"

#define DIGIT 11
#define BUCKETS (1 << DIGIT)

static int is_sorted(const keyed *items, int64_t n) {
    for (int64_t i = 1; i < n; i++)
        if (items[i - 1].key > items[i].key) return 0;
    return 1;
}

/* Recordings are often nearly in order: a few steps of insertion, given up when they do not pay. */
static int nearly_sorted(keyed *items, int64_t n) {
    int64_t moves = 4 * n + 64;
    for (int64_t i = 1; i < n; i++) {
        keyed item = items[i];
        int64_t j = i;
        while (j > 0 && items[j - 1].key > item.key) {
            items[j] = items[j - 1];
            j--;
        }
        items[j] = item;
        if ((moves -= i - j) < 0) return 0;
    }
    return 1;
}

int sort_keyed(keyed *items, int64_t n) {
    if (n < 2 || is_sorted(items, n) || nearly_sorted(items, n)) return DONE;
    int64_t low = items[0].key, high = low;
    for (int64_t i = 1; i < n; i++) {
        if (items[i].key < low) low = items[i].key;
        if (items[i].key > high) high = items[i].key;
    }
    uint64_t span = (uint64_t)high - (uint64_t)low;
    int passes = 0;
    while (passes * DIGIT < 64 && (span >> (passes * DIGIT))) passes++;
    keyed *other = malloc((size_t)n * sizeof *other);
    uint32_t *place = malloc((size_t)passes * BUCKETS * sizeof *place);
    if (!other || !place) {
        free(other);
        free(place);
        return NO_MEMORY;
    }
    memset(place, 0, (size_t)passes * BUCKETS * sizeof *place);
    for (int64_t i = 0; i < n; i++) {
        uint64_t key = (uint64_t)items[i].key - (uint64_t)low;
        for (int pass = 0; pass < passes; pass++) place[pass * BUCKETS + ((key >> (pass * DIGIT)) & (BUCKETS - 1))]++;
    }
    keyed *from = items, *to = other;
    for (int pass = 0; pass < passes; pass++) {
        uint32_t *bucket = place + pass * BUCKETS, sum = 0;
        int trivial = 0;
        for (int d = 0; d < BUCKETS; d++) {
            uint32_t here = bucket[d];
            if (here == (uint32_t)n) trivial = 1;
            bucket[d] = sum;
            sum += here;
        }
        if (trivial) continue;
        for (int64_t i = 0; i < n; i++) {
            uint64_t key = (uint64_t)from[i].key - (uint64_t)low;
            to[bucket[(key >> (pass * DIGIT)) & (BUCKETS - 1)]++] = from[i];
        }
        keyed *swap = from;
        from = to;
        to = swap;
    }
    if (from != items) memcpy(items, from, (size_t)n * sizeof *items);
    free(other);
    free(place);
    return DONE;
}

/* Times that are distinct numbers of a narrow range (line numbers, ranks) need no sort: each goes to its place. */
static int order_narrow(const int64_t *call, const int64_t *ret, int64_t n, int64_t low, uint64_t span,
                        uint32_t **events, int64_t *count) {
    size_t places = (size_t)span + 1;
    uint32_t *place = malloc(places * sizeof *place);
    if (!place) return NO_MEMORY;
    memset(place, 0xff, places * sizeof *place);
    int64_t m = 0;
    for (int64_t row = 0; row < n; row++) {
        uint32_t *cell = place + (call[row] - low);
        if (*cell != NONE) goto taken;
        *cell = (uint32_t)row << 1;
        m++;
        if (ret[row] == NEVER) continue;
        cell = place + (ret[row] - low);
        if (*cell != NONE) goto taken;
        *cell = (uint32_t)row << 1 | 1;
        m++;
    }
    if ((uint64_t)m != places) {
        int64_t at = 0;
        for (size_t i = 0; i < places; i++)
            if (place[i] != NONE) place[at++] = place[i];
    }
    *events = place;
    *count = m;
    return DONE;
taken:
    free(place);
    return AMBIGUOUS;
}

/* Rows in the order of their calls, returns a little out of order: as clients record. Nothing is copied but row numbers.
 * AMBIGUOUS: the rows are not like that. */
static int order_recorded(const int64_t *call, const int64_t *ret, int64_t n, int64_t closed, uint32_t **events) {
    for (int64_t i = 1; i < n; i++)
        if (call[i - 1] > call[i]) return AMBIGUOUS;
    uint32_t *out = malloc((size_t)(n + closed) * sizeof *out), *rets = malloc((size_t)(closed + 1) * sizeof *rets);
    int64_t moves = 4 * closed + 64, m = 0, r = 0, c = 0, at = 0;
    if (!out || !rets) goto failed;
    for (int64_t row = 0; row < n; row++) {
        if (ret[row] == NEVER) continue;
        int64_t j = m++;
        for (; j > 0 && ret[rets[j - 1]] > ret[row]; j--) rets[j] = rets[j - 1];
        rets[j] = (uint32_t)row;
        if ((moves -= m - 1 - j) < 0) goto failed;
    }
    while (c < n && r < closed) { /* without a branch: nobody can guess which comes first */
        int is_return = ret[rets[r]] < call[c];
        out[at++] = is_return ? rets[r] << 1 | 1 : (uint32_t)c << 1;
        r += is_return;
        c += !is_return;
    }
    while (c < n) out[at++] = (uint32_t)c++ << 1;
    while (r < closed) out[at++] = rets[r++] << 1 | 1;
    free(rets);
    *events = out;
    return DONE;
failed:
    free(out);
    free(rets);
    return moves < 0 ? AMBIGUOUS : NO_MEMORY;
}

int order_events(const int64_t *call, const int64_t *ret, int64_t n, uint32_t **events, int64_t *count) {
    *events = NULL;
    *count = 0;
    if (n == 0) {
        *events = malloc(sizeof **events);
        return *events ? DONE : NO_MEMORY;
    }
    int64_t low = call[0], high = call[0], closed = 0;
    for (int64_t i = 0; i < n; i++) {
        if (call[i] < low) low = call[i];
        if (call[i] > high) high = call[i];
        if (ret[i] == NEVER) continue;
        closed++;
        if (ret[i] > high) high = ret[i];
        if (ret[i] < low) low = ret[i];
    }
    uint64_t span = (uint64_t)high - (uint64_t)low;
    if (span < 4 * (uint64_t)n + 1024) {
        int status = order_narrow(call, ret, n, low, span, events, count);
        if (status != AMBIGUOUS) return status;
    }
    int64_t m = n + closed;
    int recorded = order_recorded(call, ret, n, closed, events);
    if (recorded != AMBIGUOUS) {
        *count = m;
        return recorded;
    }
    uint32_t *out = malloc((size_t)m * sizeof *out);
    keyed *calls = malloc((size_t)n * sizeof *calls);
    keyed *rets = malloc((size_t)(closed + 1) * sizeof *rets);
    int status = NO_MEMORY;
    if (!out || !calls || !rets) goto done;
    int64_t r = 0;
    for (int64_t i = 0; i < n; i++) {
        calls[i].key = call[i];
        calls[i].index = (uint32_t)i << 1;
        if (ret[i] == NEVER) continue;
        rets[r].key = ret[i];
        rets[r++].index = (uint32_t)i << 1 | 1;
    }
    if ((status = sort_keyed(calls, n)) != DONE || (status = sort_keyed(rets, closed)) != DONE) goto done;
    int64_t c = 0, at = 0;
    r = 0;
    while (c < n && r < closed) out[at++] = calls[c].key <= rets[r].key ? calls[c++].index : rets[r++].index;
    while (c < n) out[at++] = calls[c++].index;
    while (r < closed) out[at++] = rets[r++].index;
    *events = out;
    *count = m;
    out = NULL;
done:
    free(out);
    free(calls);
    free(rets);
    return status;
}

int ids_open(ids *table, const int64_t *sample, const uint8_t *f, uint8_t wanted, int64_t n) {
    memset(table, 0, sizeof *table);
    int64_t low = INT64_MAX, high = INT64_MIN, seen = 0;
    for (int64_t i = 0; i < n; i++) {
        if (f && f[i] != wanted) continue;
        seen++;
        if (sample[i] < low) low = sample[i];
        if (sample[i] > high) high = sample[i];
    }
    if (seen && (uint64_t)high - (uint64_t)low < 4 * (uint64_t)seen + 256) {
        table->low = low;
        table->span = (uint64_t)high - (uint64_t)low + 1;
        table->direct = malloc((size_t)table->span * sizeof *table->direct);
        if (!table->direct) return NO_MEMORY;
        memset(table->direct, 0xff, (size_t)table->span * sizeof *table->direct);
        return DONE;
    }
    uint64_t size = 64;
    while (size < 2 * (uint64_t)seen) size *= 2;
    table->mask = size - 1;
    table->keys = malloc((size_t)size * sizeof *table->keys);
    table->numbers = malloc((size_t)size * sizeof *table->numbers);
    if (!table->keys || !table->numbers) {
        ids_close(table);
        return NO_MEMORY;
    }
    memset(table->numbers, 0xff, (size_t)size * sizeof *table->numbers);
    return DONE;
}

void ids_close(ids *table) {
    free(table->keys);
    free(table->numbers);
    free(table->direct);
    memset(table, 0, sizeof *table);
}

uint32_t ids_find(const ids *table, int64_t id) {
    if (table->direct) {
        uint64_t at = (uint64_t)id - (uint64_t)table->low;
        return at < table->span ? table->direct[at] : NONE;
    }
    for (uint64_t at = mix((uint64_t)id) & table->mask;; at = (at + 1) & table->mask) {
        if (table->numbers[at] == NONE) return NONE;
        if (table->keys[at] == id) return table->numbers[at];
    }
}

static int grow(ids *table) {
    uint64_t size = 2 * (table->mask + 1);
    int64_t *keys = malloc((size_t)size * sizeof *keys);
    uint32_t *numbers = malloc((size_t)size * sizeof *numbers);
    if (!keys || !numbers) {
        free(keys);
        free(numbers);
        return NO_MEMORY;
    }
    memset(numbers, 0xff, (size_t)size * sizeof *numbers);
    for (uint64_t old = 0; old <= table->mask; old++) {
        if (table->numbers[old] == NONE) continue;
        uint64_t at = mix((uint64_t)table->keys[old]) & (size - 1);
        while (numbers[at] != NONE) at = (at + 1) & (size - 1);
        keys[at] = table->keys[old];
        numbers[at] = table->numbers[old];
    }
    free(table->keys);
    free(table->numbers);
    table->keys = keys;
    table->numbers = numbers;
    table->mask = size - 1;
    return DONE;
}

uint32_t ids_number(ids *table, int64_t id) {
    if (table->direct) {
        uint32_t *cell = table->direct + ((uint64_t)id - (uint64_t)table->low);
        if (*cell == NONE) *cell = table->count++;
        return *cell;
    }
    uint64_t at = mix((uint64_t)id) & table->mask;
    for (; table->numbers[at] != NONE; at = (at + 1) & table->mask)
        if (table->keys[at] == id) return table->numbers[at];
    if (2 * (uint64_t)(table->count + 1) > table->mask + 1) {
        if (grow(table) != DONE) return NONE;
        return ids_number(table, id);
    }
    table->keys[at] = id;
    return table->numbers[at] = table->count++;
}

/* The deciders that need no search: queues and bags, logs with offsets, registers whose writes are unique.
 * Each is counting over events in order of time; docs/checkers.md gives the rules.
 */
#include "core.h"

typedef struct {
    uint32_t enqueue, dequeue; /* rows */
    int64_t limit;             /* latest call of a dequeue whose value had to leave before this one */
    uint32_t need;             /* acknowledged values never seen again that had to leave before this one */
    uint8_t called, inside;    /* the enqueue was called; the value is certainly in the queue */
} element;

/* Values leave a queue about as they came, so the next to leave is looked for where it should be before it is looked up:
 * a table of millions is in no cache, and a lookup waits for memory. Given up where values leave in another order. */
#define NEAR 8
typedef struct {
    const int64_t *value; /* of each element */
    int64_t count, next, credit;
} belt;

static uint32_t next_out(belt *b, const ids *table, int64_t value) {
    if (b->credit > 0) {
        int64_t low = b->next < NEAR ? 0 : b->next - NEAR, high = b->next + NEAR < b->count ? b->next + NEAR : b->count;
        for (int64_t v = b->next; v < high; v++)
            if (b->value[v] == value) return b->next = v + 1, (uint32_t)v;
        for (int64_t v = b->next; v-- > low;)
            if (b->value[v] == value) return (uint32_t)v;
        b->credit--;
    }
    uint32_t v = ids_find(table, value);
    if (v != NONE) b->next = (int64_t)v + 1;
    return v;
}

int decide_queue(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *a, int64_t n, int ordered,
                 int64_t *counts) {
    memset(counts, 0, Q_COUNTS * sizeof *counts);
    int status = NO_MEMORY;
    int64_t enqueues = 0, m = 0;
    uint32_t *number = malloc((size_t)(n + 1) * sizeof *number), *events = NULL;
    int64_t *values = NULL;
    element *elements = NULL;
    ids table;
    memset(&table, 0, sizeof table);
    for (int64_t row = 0; row < n; row++) enqueues += f[row] == ENQUEUE;
    elements = calloc((size_t)(enqueues + 1), sizeof *elements);
    values = malloc((size_t)(enqueues + 1) * sizeof *values);
    if (!number || !elements || !values || ids_open(&table, a, f, ENQUEUE, n) != DONE) goto done;
    for (int64_t row = 0; row < n; row++) {
        if (f[row] != ENQUEUE) continue;
        uint32_t before = table.count, v = ids_number(&table, a[row]);
        if (v == NONE) goto done;
        if (v < before) {
            status = AMBIGUOUS;
            goto done;
        }
        number[row] = v;
        values[v] = a[row];
        elements[v].enqueue = (uint32_t)row;
        elements[v].dequeue = NONE;
        elements[v].limit = INT64_MIN;
    }
    uint32_t takers = 0, endless = 0;
    belt out = {values, table.count, 0, 64 + n / 64};
    for (int64_t row = 0; row < n; row++) {
        if (f[row] == ENQUEUE) continue;
        number[row] = NONE;
        if (f[row] == DRAIN) endless = 1;
        if (f[row] != DEQUEUE) continue;
        if (ret[row] == NEVER && a[row] == NULL_ID) {
            takers++;
            continue;
        }
        uint32_t v = next_out(&out, &table, a[row]);
        if (v == NONE) {
            counts[Q_UNEXPECTED]++;
        } else if (elements[v].dequeue != NONE) {
            counts[Q_DUPLICATE]++;
        } else {
            elements[v].dequeue = (uint32_t)row;
            number[row] = v;
            if (ret[row] < call[elements[v].enqueue]) counts[Q_PREMATURE]++;
            if (ret[elements[v].enqueue] == NEVER) counts[Q_RECOVERED]++;
        }
    }
    counts[Q_TAKERS] = takers;
    (void)endless;
    if ((status = order_events(call, ret, n, &events, &m)) != DONE) goto done;
    int64_t latest = INT64_MIN; /* latest call of a dequeue among values whose enqueue has returned */
    int64_t inside = 0, lost = 0, taken = 0, good = -1;
    for (int64_t at = 0; at < m; at++) {
        uint32_t row = events[at] >> 1, v = number[row];
        if (!(events[at] & 1)) { /* a call */
            switch (f[row]) {
            case ENQUEUE:
                elements[v].limit = latest;
                elements[v].need = (uint32_t)lost;
                elements[v].called = 1;
                break;
            case DEQUEUE:
                if (v != NONE) {
                    if (elements[v].inside) inside--;
                    elements[v].inside = 0;
                } else if (ret[row] == NEVER && a[row] == NULL_ID) {
                    taken++;
                }
                break;
            case EMPTY:
                number[row] = (uint32_t)at;
                break;
            case DRAIN: /* of unknown outcome: it may have taken any number */
                taken += ROWS_MAX;
                break;
            default:
                break;
            }
        } else {
            switch (f[row]) {
            case ENQUEUE:
                if (elements[v].dequeue == NONE) {
                    lost++;
                } else {
                    int64_t out = call[elements[v].dequeue];
                    if (out > latest) latest = out;
                    if (out > ret[row]) {
                        elements[v].inside = 1;
                        inside++;
                    }
                }
                break;
            case DEQUEUE:
                if (v != NONE && ordered && elements[v].called) {
                    if (ret[row] < elements[v].limit) counts[Q_ORDER]++;
                    if ((int64_t)elements[v].need > taken) counts[Q_LOST]++;
                }
                break;
            case EMPTY:
                if (good < (int64_t)v) counts[Q_EMPTY]++;
                break;
            default:
                break;
            }
        }
        if (inside == 0 && lost <= taken) good = at;
    }
    counts[Q_MISSING] = lost;
    if (ordered)
        for (int64_t v = 0; v < enqueues; v++) {
            uint32_t out = elements[v].dequeue;
            if (out != NONE && ret[out] == NEVER && (int64_t)elements[v].need > taken) counts[Q_LOST]++;
        }
    status = DONE;
done:
    ids_close(&table);
    free(number);
    free(values);
    free(elements);
    free(events);
    return status;
}

/* One offset of a log. */
typedef struct {
    uint32_t owner; /* row of its append, NONE for none */
    int64_t value;
    int64_t append, end; /* latest call of an append at it, of a read that said the log ended here; then prefix maxima */
    uint8_t seen;
} place;

static int fill_holes(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *b, int64_t n,
                      const place *log, int64_t top, const uint8_t *used, int64_t holes, int64_t *counts) {
    int64_t *until = malloc((size_t)(top + 1) * sizeof *until);
    keyed *spare = malloc((size_t)(n + 1) * sizeof *spare);
    int64_t spares = 0, k = 0;
    int status = NO_MEMORY;
    if (!until || !spare) goto done;
    for (int64_t o = 0; o < top; o++) until[o] = NEVER;
    for (int64_t row = 0; row < n; row++) {
        if (f[row] == APPEND && b[row] == NULL_ID) {
            if (!used || !used[row]) {
                spare[spares].key = call[row];
                spare[spares++].index = (uint32_t)row;
            }
        } else if ((f[row] == APPEND || f[row] == LOG_READ) && b[row] >= 0 && b[row] < top) {
            if (ret[row] < until[b[row]]) until[b[row]] = ret[row];
        }
    }
    for (int64_t o = top - 2; o >= 0; o--)
        if (until[o + 1] < until[o]) until[o] = until[o + 1];
    if ((status = sort_keyed(spare, spares)) != DONE) goto done;
    for (int64_t o = 0; o < top && k < holes; o++) {
        if (log[o].owner != NONE || log[o].seen) continue;
        if (k >= spares || spare[k].key > until[o]) counts[L_HOLE]++;
        k++;
    }
    counts[L_FILLED] = k < spares ? k : spares;
done:
    free(until);
    free(spare);
    return status;
}

int decide_log(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *a, const int64_t *b,
               int64_t n, int64_t *counts) {
    memset(counts, 0, L_COUNTS * sizeof *counts);
    int64_t appends = 0, unknown = 0, top = 0, holes = 0;
    int status = NO_MEMORY;
    uint8_t *used = NULL;
    ids table;
    memset(&table, 0, sizeof table);
    for (int64_t row = 0; row < n; row++) {
        if (f[row] != APPEND) continue;
        appends++;
        if (b[row] != NULL_ID) continue;
        if (ret[row] != NEVER) return AMBIGUOUS; /* it ended somewhere, and nobody knows where */
        unknown++;
    }
    place *log = malloc((size_t)(appends + 1) * sizeof *log);
    if (!log) return NO_MEMORY;
    for (int64_t o = 0; o < appends; o++) {
        log[o].owner = NONE;
        log[o].append = log[o].end = INT64_MIN;
        log[o].seen = 0;
    }
    for (int64_t row = 0; row < n; row++) {
        if (f[row] == APPEND && b[row] != NULL_ID) {
            if (b[row] < 0 || b[row] >= appends) {
                counts[L_HOLE]++;
            } else if (log[b[row]].owner != NONE) {
                counts[L_CLASH]++;
            } else {
                place *at = log + b[row];
                at->owner = (uint32_t)row;
                at->value = a[row];
                at->append = call[row];
                if (b[row] >= top) top = b[row] + 1;
            }
        }
    }
    uint32_t *by_value = NULL;
    if (unknown) {
        used = calloc((size_t)n + 1, 1);
        by_value = malloc((size_t)unknown * sizeof *by_value);
        if (!used || !by_value || ids_open(&table, a, NULL, 0, 0) != DONE) goto done;
        for (int64_t row = 0; row < n; row++) {
            if (f[row] != APPEND || b[row] != NULL_ID) continue;
            uint32_t before = table.count, v = ids_number(&table, a[row]);
            if (v == NONE) goto done;
            if (v < before) {
                status = AMBIGUOUS;
                goto done;
            }
            by_value[v] = (uint32_t)row;
        }
    }
    for (int64_t row = 0; row < n; row++) {
        if (f[row] != LOG_READ) continue;
        if (b[row] < 0) {
            counts[L_UNWRITTEN]++;
        } else if (b[row] >= appends) {
            counts[L_HOLE]++;
        } else {
            place *at = log + b[row];
            if (at->owner == NONE && !at->seen) {
                uint32_t v = unknown ? ids_find(&table, a[row]) : NONE;
                at->seen = 1;
                at->value = a[row];
                if (b[row] >= top) top = b[row] + 1;
                if (v != NONE && !used[by_value[v]]) {
                    at->owner = by_value[v];
                    at->append = call[by_value[v]];
                    used[by_value[v]] = 1;
                }
            }
            if (at->value != a[row])
                counts[L_DISAGREE]++;
            else if (at->owner == NONE)
                counts[L_UNWRITTEN]++;
        }
    }
    for (int64_t row = 0; row < n; row++) {
        if (f[row] != LOG_END) continue;
        if (b[row] < 0)
            counts[L_STALE]++;
        else if (b[row] < appends && call[row] > log[b[row]].end)
            log[b[row]].end = call[row];
    }
    for (int64_t o = 0; o < top; o++) {
        if (o && log[o - 1].append > log[o].append) log[o].append = log[o - 1].append;
        if (o && log[o - 1].end > log[o].end) log[o].end = log[o - 1].end;
        holes += log[o].owner == NONE && !log[o].seen;
    }
    for (int64_t row = 0; row < n; row++) {
        if ((f[row] != APPEND && f[row] != LOG_READ) || b[row] < 0 || b[row] >= appends) continue;
        const place *at = log + b[row];
        if (f[row] == APPEND ? at->owner != (uint32_t)row : at->value != a[row]) continue;
        if (ret[row] < at->append)
            counts[f[row] == APPEND ? L_ORDER : L_FUTURE]++;
        else if (ret[row] < at->end)
            counts[L_STALE]++;
    }
    status = holes ? fill_holes(call, ret, f, b, n, log, top, used, holes, counts) : DONE;
done:
    ids_close(&table);
    free(log);
    free(used);
    free(by_value);
    return status;
}

/* All operations on one value of one key: from the first return to the last call. */
typedef struct {
    int64_t value, first, last, written;
    uint32_t key;
} zone;

/* Open addressing by key and value. */
typedef struct {
    uint32_t *cells;
    uint64_t mask;
} pairs;

static uint32_t *pair_cell(const pairs *p, const zone *zones, uint32_t key, int64_t value) {
    uint64_t at = mix((uint64_t)value + key * UINT64_C(0x9e3779b97f4a7c15)) & p->mask;
    while (p->cells[at] != NONE && (zones[p->cells[at]].value != value || zones[p->cells[at]].key != key))
        at = (at + 1) & p->mask;
    return p->cells + at;
}

int decide_zones(const int64_t *call, const int64_t *ret, const uint8_t *f, const int64_t *a, const int64_t *key,
                 int64_t n, int64_t init, int null_unknown, uint8_t *ambiguous, int64_t *ambiguous_rows,
                 int64_t *counts) {
    memset(counts, 0, Z_COUNTS * sizeof *counts);
    *ambiguous_rows = 0;
    int status = NO_MEMORY;
    int64_t writes = 0, forwards = 0, begin = 0;
    uint32_t keys = 1, zones_n = 0;
    pairs p = {NULL, 63};
    ids numbers;
    memset(&numbers, 0, sizeof numbers);
    uint32_t *number = malloc((size_t)(n + 1) * sizeof *number);
    uint32_t *start = NULL;
    uint8_t *bad = NULL;
    zone *zones = NULL;
    keyed *forward = NULL, *grouped = NULL;
    if (!number) return NO_MEMORY;
    if (key) {
        if (ids_open(&numbers, key, NULL, 0, n) != DONE) goto done;
        for (int64_t row = 0; row < n; row++)
            if ((number[row] = ids_number(&numbers, key[row])) == NONE) goto done;
        keys = numbers.count ? numbers.count : 1;
    } else {
        memset(number, 0, (size_t)n * sizeof *number);
    }
    for (int64_t row = 0; row < n; row++) {
        writes += f[row] == WRITE;
        if (row == 0 || call[row] <= begin) begin = call[row] - 1; /* the initial value was written before everything */
    }
    size_t most = (size_t)writes + keys;
    while (p.mask + 1 < 2 * (uint64_t)most) p.mask = 2 * p.mask + 1;
    zones = malloc(most * sizeof *zones);
    p.cells = malloc((size_t)(p.mask + 1) * sizeof *p.cells);
    bad = calloc(keys, 1);
    start = calloc((size_t)keys + 1, sizeof *start);
    if (!zones || !p.cells || !bad || !start) goto done;
    memset(p.cells, 0xff, (size_t)(p.mask + 1) * sizeof *p.cells);
    for (int64_t i = -(int64_t)keys; i < n; i++) { /* first the initial value of every key, then the writes */
        if (i >= 0 && f[i] != WRITE) continue;
        uint32_t k = i < 0 ? (uint32_t)(i + keys) : number[i];
        int64_t value = i < 0 ? init : a[i];
        uint32_t *cell = pair_cell(&p, zones, k, value);
        if (*cell != NONE) {
            bad[k] = 1;
            continue;
        }
        zone *z = zones + zones_n;
        *cell = zones_n++;
        z->key = k;
        z->value = value;
        z->written = z->last = i < 0 ? begin : call[i];
        z->first = i < 0 ? begin : ret[i];
    }
    for (int64_t row = 0; row < n; row++) {
        uint32_t k = number[row];
        if (bad[k]) {
            ambiguous[row] = 1;
            ++*ambiguous_rows;
            continue;
        }
        if (f[row] != READ || (null_unknown && a[row] == NULL_ID)) continue;
        uint32_t z = *pair_cell(&p, zones, k, a[row]);
        if (z == NONE) {
            counts[Z_UNEXPECTED]++;
        } else if (ret[row] < zones[z].written) {
            counts[Z_FUTURE]++;
        } else {
            if (ret[row] < zones[z].first) zones[z].first = ret[row];
            if (call[row] > zones[z].last) zones[z].last = call[row];
        }
    }
    forward = malloc((size_t)(zones_n + 1) * sizeof *forward);
    grouped = malloc((size_t)(zones_n + 1) * sizeof *grouped);
    if (!forward || !grouped) goto done;
    for (uint32_t z = 0; z < zones_n; z++) {
        if (bad[zones[z].key] || zones[z].first >= zones[z].last) continue;
        forward[forwards].key = zones[z].first;
        forward[forwards++].index = z;
        start[zones[z].key + 1]++;
    }
    if (sort_keyed(forward, forwards) != DONE) goto done;
    for (uint32_t k = 0; k < keys; k++) start[k + 1] += start[k];
    for (int64_t i = forwards - 1; i >= 0; i--) { /* stable by key, from the back; start[k + 1] ends as the start of k */
        uint32_t k = zones[forward[i].index].key;
        grouped[--start[k + 1]] = forward[i];
    }
    /* now key k has grouped[start[k + 1] .. start[k + 2]); running maximum of the last call in place of the index */
    for (uint32_t k = 0; k < keys; k++) {
        int64_t from = start[k + 1], to = k + 1 < keys ? start[k + 2] : forwards, reach = INT64_MIN;
        for (int64_t i = from; i < to; i++) {
            const zone *z = zones + grouped[i].index;
            if (reach > z->first) counts[Z_OVERLAP]++;
            if (z->last > reach) reach = z->last;
            forward[i].key = reach;
        }
    }
    for (uint32_t z = 0; z < zones_n; z++) {
        const zone *back = zones + z;
        if (bad[back->key] || back->first < back->last) continue;
        if (back->first == NEVER) continue; /* outcome unknown and never seen: it need not have happened */
        int64_t low = start[back->key + 1], from = low, to = back->key + 1 < keys ? start[back->key + 2] : forwards;
        while (low < to) { /* the first forward zone that begins at or after the last call */
            int64_t middle = (low + to) / 2;
            if (grouped[middle].key < back->last)
                low = middle + 1;
            else
                to = middle;
        }
        if (low > from && forward[low - 1].key > back->first) counts[Z_INSIDE]++;
    }
    status = DONE;
done:
    ids_close(&numbers);
    free(p.cells);
    free(number);
    free(start);
    free(bad);
    free(zones);
    free(forward);
    free(grouped);
    return status;
}

/* Moving a search through its events, and looking ahead from where it is. */
#include "search.h"

int append_line(search *s, uint32_t what) {
    if (s->line_n == s->line_room &&
        enlarge(s, (void **)&s->line, &s->line_room, s->line_n + 1, sizeof *s->line) != DONE)
        return NO_MEMORY;
    s->line[s->line_n++] = what;
    return DONE;
}

/* Linearizes every open pure operation that is legal now. */
int eager(search *s) {
    for (uint32_t w = 0; w < s->mw; w++) {
        uint64_t bits = s->active[w] & s->pure[w] & ~s->mask[w];
        while (bits) {
            uint32_t slot = w * 64 + (uint32_t)__builtin_ctzll(bits), o = s->slot_op[slot];
            int64_t next;
            bits &= bits - 1;
            int legal = step(s, s->state, s->ops + o, &next);
            if (legal < 0) return legal;
            if (!legal) continue;
            set(s->mask, slot);
            if (append_line(s, o) != DONE) return NO_MEMORY;
        }
    }
    return DONE;
}

/* Goes on to the next return of an operation that is not linearized, or to the end. */
int advance(search *s) {
    for (; s->at < s->m; s->at++) {
        uint32_t o = s->events[s->at] >> 1;
        op *it = s->ops + o;
        if (it->slot == NONE) {
            if (!it->pure) s->infos[it->info].available++;
            continue;
        }
        if (s->events[s->at] & 1) {
            if (!has(s->mask, it->slot)) return DONE;
            unset(s->mask, it->slot);
            unset(s->active, it->slot);
            continue;
        }
        s->slot_op[it->slot] = o;
        set(s->active, it->slot);
        if (!it->pure) {
            unset(s->pure, it->slot);
            continue;
        }
        set(s->pure, it->slot);
        int64_t next;
        int legal = step(s, s->state, it, &next);
        if (legal < 0) return legal;
        if (!legal) continue;
        set(s->mask, it->slot);
        if (append_line(s, o) != DONE) return NO_MEMORY;
    }
    return DONE;
}

void go_back(search *s, int64_t to) {
    while (s->at > to) {
        uint32_t event = s->events[--s->at], o = event >> 1;
        op *it = s->ops + o;
        if (it->slot == NONE) {
            if (!it->pure) s->infos[it->info].available--;
        } else if (event & 1) {
            s->slot_op[it->slot] = o;
            set(s->active, it->slot);
            if (it->pure)
                set(s->pure, it->slot);
            else
                unset(s->pure, it->slot);
        } else {
            unset(s->active, it->slot);
        }
    }
}
static int is_prefix(const text *x, const text *of) {
    return x->length <= of->length && memcmp(x->bytes, of->bytes, (size_t)x->length) == 0;
}

/* Which open operations can be starved depends on the position alone, and many configurations share one. */
static void find_risky(search *s) {
    s->risky_at = s->at;
    for (uint32_t w = 0; w < s->mw; w++) {
        s->risky[w] = 0;
        for (uint64_t bits = s->active[w]; bits; bits &= bits - 1) {
            uint32_t o = s->slot_op[w * 64 + (uint32_t)__builtin_ctzll(bits)];
            if ((int64_t)s->last_source[o] <= s->at && wants(s->ops + o)) s->risky[w] |= bits & -bits;
        }
    }
}

/* 1 if an open operation wants a value that nothing can make any more before it returns. */
static int starved(search *s) {
    if (s->risky_at != s->at) find_risky(s);
    for (uint32_t w = 0; w < s->mw; w++)
        for (uint64_t bits = s->risky[w] & ~s->mask[w]; bits; bits &= bits - 1) {
            const op *it = s->ops + s->slot_op[w * 64 + (uint32_t)__builtin_ctzll(bits)];
            if (it->a == s->state) continue;
            int found = 0;
            for (uint32_t v = 0; v < s->mw && !found; v++)
                for (uint64_t rest = s->active[v] & ~s->pure[v] & ~s->mask[v]; rest; rest &= rest - 1) {
                    const op *source = s->ops + s->slot_op[v * 64 + (uint32_t)__builtin_ctzll(rest)];
                    if (source != it && made_by(source) == it->a) {
                        found = 1;
                        break;
                    }
                }
            for (uint32_t c = 0; c < s->classes && !found; c++) {
                const info_class *k = s->infos + c;
                if (!k->available || k->to != it->a) continue;
                found = s->mode == ENDLESS || ((s->counts[k->word] >> k->shift) & k->most) < k->available;
            }
            if (!found) return 1;
        }
    return 0;
}
/* 1: no way leads on from here. May only say so when it is certain. */
int hopeless(search *s) {
    if (s->kind == REGISTER) return s->last_source && starved(s);
    if (s->kind == TEXT) {
        const text *now = s->states + s->state;
        int64_t put = s->next_put[s->at] < s->info_put ? s->next_put[s->at] : s->info_put;
        for (uint32_t w = 0; w < s->mw; w++)
            for (uint64_t bits = s->active[w] & ~s->pure[w] & ~s->mask[w]; bits; bits &= bits - 1)
                if (s->ops[s->slot_op[w * 64 + (uint32_t)__builtin_ctzll(bits)]].f == WRITE) return 0;
        for (uint32_t w = 0; w < s->mw; w++)
            for (uint64_t bits = s->active[w] & s->pure[w] & ~s->mask[w]; bits; bits &= bits - 1) {
                uint32_t o = s->slot_op[w * 64 + (uint32_t)__builtin_ctzll(bits)];
                if (put > s->returns[o] && !is_prefix(now, s->texts + s->ops[o].a)) return 1;
            }
        uint32_t o = s->next_read[s->at];
        return o != NONE && put > s->returns[o] && !is_prefix(now, s->texts + s->ops[o].a);
    }
    if (s->kind == TABLE && s->hooks->reach) {
        for (uint32_t w = 0; w < s->mw; w++)
            for (uint64_t bits = s->active[w] & ~s->mask[w]; bits; bits &= bits - 1) {
                uint32_t o = s->slot_op[w * 64 + (uint32_t)__builtin_ctzll(bits)];
                int64_t answer = asked(s, s->state, s->ops[o].a, 1);
                if (answer < -1) return answer == INTERRUPTED ? INTERRUPTED : NO_MEMORY;
                if (!answer) return 1;
            }
    }
    return 0;
}

/* The JSON that can be taken from a line of text without making an object of it; for each source file that includes this.
 *
 * Only what is plain is taken: ASCII text, whole numbers of 64 bits. At anything else, right or wrong, a rule returns 0,
 * and the line is left to the typed decoder, which has the last word and the words for what is wrong. What is taken must
 * mean what the decoder says it means.
 *
 * The text must end in a NUL, as a bytes object does, which no rule accepts: nothing is read beyond it.
 */
#ifndef CHECKERS_JSON_H
#define CHECKERS_JSON_H

#include <stdint.h>
#include <string.h>

#define DIGITS 19 /* of a number: any of so many fit 64 bits without a sign */
#define DEPTH 32  /* of values that are only passed over */

typedef struct {
    const char *text; /* the block */
    const char *at;   /* what is read next */
    const char *end;
} cursor;

static inline void space(cursor *c) {
    while (*c->at == ' ' || *c->at == '\t' || *c->at == '\r') c->at++;
}

static inline int is_digit(char c) { return c >= '0' && c <= '9'; }

static inline int literal(cursor *c, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length)) return 0;
    c->at += length;
    return 1;
}

/* A string without escapes; `start` is its place in the block. */
static inline int string(cursor *c, int64_t *start, uint32_t *length) {
    if (*c->at != '"') return 0;
    const char *begin = ++c->at;
    while ((unsigned char)*c->at >= 0x20 && (unsigned char)*c->at < 0x80 && *c->at != '"' && *c->at != '\\') c->at++;
    if (*c->at != '"' || c->at - begin > INT32_MAX) return 0;
    *start = begin - c->text;
    *length = (uint32_t)(c->at++ - begin);
    return 1;
}

/* A whole number; `-0`, leading zeros, fractions and exponents are for the decoder. */
static inline int whole(cursor *c, int64_t *number) {
    int negative = *c->at == '-';
    const char *first = c->at += negative;
    uint64_t n = 0;
    while (is_digit(*c->at) && c->at - first < DIGITS) n = n * 10 + (uint64_t)(*c->at++ - '0');
    if (c->at == first || is_digit(*c->at) || n > INT64_MAX) return 0;
    if (*first == '0' && (c->at - first > 1 || negative)) return 0;
    if (*c->at == '.' || *c->at == 'e' || *c->at == 'E') return 0;
    *number = negative ? -(int64_t)n : (int64_t)n;
    return 1;
}

/* A number with a fraction; what may not follow a number is for the caller's next rule to refuse. */
static inline int fraction(cursor *c) {
    c->at += *c->at == '-';
    const char *first = c->at;
    while (is_digit(*c->at)) c->at++;
    if (c->at == first || c->at - first > DIGITS || (*first == '0' && c->at - first > 1)) return 0;
    if (*c->at != '.') return 0;
    first = ++c->at;
    while (is_digit(*c->at)) c->at++;
    return c->at != first && c->at - first <= DIGITS && *c->at != 'e' && *c->at != 'E';
}

static inline int escaped_string(cursor *c) {
    if (*c->at++ != '"') return 0;
    for (;; c->at++) {
        unsigned char one = (unsigned char)*c->at;
        if (one < 0x20 || one >= 0x80) return 0;
        if (one == '"') break;
        if (one == '\\') {
            char code = *++c->at;
            if (!code || !strchr("\"\\/bfnrt", code)) return 0;
        }
    }
    c->at++;
    return 1;
}

/* Passes over any value. */
static inline int passed(cursor *c, int depth) {
    char open = *c->at, close = open == '[' ? ']' : '}';
    if (open == '"') return escaped_string(c);
    if (open == 'n') return literal(c, "null");
    if (open == 't') return literal(c, "true");
    if (open == 'f') return literal(c, "false");
    if (open == '-' || is_digit(open)) {
        const char *begin = c->at;
        int64_t number;
        if (whole(c, &number)) return 1;
        c->at = begin;
        return fraction(c);
    }
    if ((open != '[' && open != '{') || depth == DEPTH) return 0;
    c->at++;
    space(c);
    if (*c->at == close) return c->at++, 1;
    for (;;) {
        if (open == '{') {
            if (!escaped_string(c)) return 0;
            space(c);
            if (*c->at++ != ':') return 0;
            space(c);
        }
        if (!passed(c, depth + 1)) return 0;
        space(c);
        if (*c->at == close) return c->at++, 1;
        if (*c->at++ != ',') return 0;
        space(c);
    }
}

#endif

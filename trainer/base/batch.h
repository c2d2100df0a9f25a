/* batch.h - what a dataset hands to the model: one micro-batch as a flat list of tokens, documents side by side.
 *
 * Rows (sequences) exist only as counting units: the tokens of all rows follow one another, without their padding, so that no
 * operation spends time on tokens that carry nothing. n is then rounded up with dead tokens (see n below).
 *
 * Prediction: position i predicts token[i+1] of the same document. target[i] and weight[i] already stand at the predicting
 * position: target[i] = token[i+1], weight[i] = loss weight of token i+1; the last position of a document has weight 0. */
#ifndef LORAT_BATCH_H
#define LORAT_BATCH_H

#include <stdint.h>

enum { BATCH_ROUND = 64 }; /* n is a multiple of this: few distinct shapes, and whole tiles */

/* A run of queries that sees a run of keys. Query i (0-based) of a span sees keys 0 .. k_len - q_len + i of the span: causal,
 * aligned at the end. In training q0 == k0 and q_len == k_len (one document each); generation asks for q_len < k_len. */
struct span {
    int32_t q0, q_len, k0, k_len;
};

struct batch {
    int32_t n;         /* tokens, a multiple of BATCH_ROUND; those beyond n_real are dead: token 0, weight 0, one last span */
    int32_t n_real;
    int32_t n_rows;    /* rows of this micro-batch, empty ones included */
    int32_t n_spans, max_span;
    int64_t first_row; /* global index of its first row within the run's step: same samples whatever the micro-batch */
    int32_t *tokens;   /* (n) */
    int32_t *targets;  /* (n) */
    float *weights;    /* (n) */
    int32_t *positions;/* (n) position in the document, for the rotary embedding */
    uint32_t *keys;    /* (n) global row in the step * sequence_length + column: the dropout key, free of batch geometry */
    struct span *spans;/* (n_spans) cover all n tokens in order; dead tokens form one last span */
    double weight_sum; /* of weights, for reports; the step's own normaliser is summed on the device */
};

#endif

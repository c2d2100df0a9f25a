/* safetensors.h - the tensor file of Hugging Face: 8 bytes little-endian header length, a JSON header, the data.
 * Format: https://github.com/huggingface/safetensors#format */
#ifndef LORAT_SAFETENSORS_H
#define LORAT_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include "checkpoints/tensor.h"
#include "trainer/base/buf.h"
#include "trainer/base/err.h"

/* Pure: parse and check a header of n bytes (the JSON, without the 8 length bytes) against `data_bytes` bytes of data behind it.
 * Refused: unknown dtype, rank over 8, negative or overflowing shapes, begin > end, end past the data, size that does not match
 * shape x dtype, overlap, holes, trailing bytes, duplicate names. Tensor offsets are relative to the data. */
int safetensors_parse(const char *header, size_t n, uint64_t data_bytes, const char *where, struct tensor_list *out,
                      struct err *e);
/* Open a file, parse its header; tensors get file offsets. `out` is added to (several shards, one list); the file stays open in
 * the list. A name that another shard already has is refused. */
int safetensors_open(const char *path, struct tensor_list *out, struct err *e);
/* Pure: the 8 length bytes and the header for these tensors in this order, data packed without holes; appended to b. metadata is
 * {"format": "pt"}. Offsets of `tensors` are set (relative to the data). The header is padded with spaces to 8 bytes. */
int safetensors_header(struct tensor *tensors, size_t n, struct buf *b, struct err *e);

#endif

/* The bytes are a file: opened, and every tensor read. */
#include "checkpoints/safetensors.h"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/read_all.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    struct tensor_list l = {0};
    struct err e = {0};
    memory_file_is(bytes, n);
    if (safetensors_open("fuzz.safetensors", &l, &e) == 0)
        read_all_tensors(&l);
    else
        fuzz_expect_message(&e);
    tensor_list_close(&l);
    return 0;
}

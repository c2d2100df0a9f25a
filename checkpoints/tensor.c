#include "checkpoints/tensor.h"

const char *tensor_type_name(enum tensor_type t)
{
    switch (t) {
#define X(name, text, block, bytes) \
    case name:                      \
        return text;
        TENSOR_TYPES(X)
#undef X
    }
    return "?";
}

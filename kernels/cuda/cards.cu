/* cards.cu - the machine's cards, and which versions of NVIDIA's libraries are at work. Makes no context on any card. */
#include "kernels/cuda/nvml.h"

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* The driver that the CUDA runtime of this build asks for (CUDA's release notes: 13.0 comes with R580, 12.8 with R570). */
const char *cuda_driver_wanted(void)
{
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    return runtime >= 13000 ? "R580 or later (CUDA 13)" : "R570 or later (CUDA 12.8)";
}

/* The runtime's refusal as a sentence. */
static int no_cards(cudaError_t rc, struct err *e)
{
    int driver = 0;
    cudaGetLastError();
    cudaDriverGetVersion(&driver);
    if (driver == 0)
        FAIL(e, ERR_DEVICE,
             "cuda: no NVIDIA driver, expected %s. Install the driver, or in a container start it with the card (--gpus all)",
             cuda_driver_wanted());
    if (rc == cudaErrorInsufficientDriver)
        FAIL(e, ERR_DEVICE, "cuda: the driver is one of CUDA %d.%d, expected %s. Update the driver", driver / 1000,
             driver % 1000 / 10, cuda_driver_wanted());
    if (rc == cudaErrorNoDevice || rc == cudaSuccess)
        FAIL(e, ERR_DEVICE,
             "cuda: the driver finds no card, expected one. Is it hidden by CUDA_VISIBLE_DEVICES? Does nvidia-smi list it?");
    FAIL(e, ERR_DEVICE,
         "cuda: the driver does not answer: %s, expected a list of cards. Does nvidia-smi work? After an update of the driver "
         "restart",
         cudaGetErrorString(rc));
}

static void format_uuid(const char *bytes, char out[48])
{
    int n = snprintf(out, 48, "GPU-");
    for (int i = 0; i < 16; i++)
        n += snprintf(out + n, (size_t)(48 - n), i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x",
                      (unsigned)(unsigned char)bytes[i]);
}

int cuda_cards(struct cuda_card *out, int max, int *n, struct err *e)
{
    int found = 0;
    *n = 0;
    cudaError_t rc = cudaGetDeviceCount(&found);
    if (rc != cudaSuccess || found == 0)
        return no_cards(rc, e);
    struct nvml *nvml = nvml_open();
    for (int i = 0; i < found && i < max; i++) {
        struct cudaDeviceProp p;
        struct cuda_card *c = &out[i];
        rc = cudaGetDeviceProperties(&p, i);
        if (rc != cudaSuccess) {
            nvml_close(nvml);
            return no_cards(rc, e);
        }
        memset(c, 0, sizeof(*c));
        c->index = i;
        snprintf(c->name, sizeof(c->name), "%.63s", p.name);
        c->major = p.major;
        c->minor = p.minor;
        c->total = c->free = (int64_t)p.totalGlobalMem; /* without NVML nobody tells what is free, short of making a context */
        snprintf(c->pci, sizeof(c->pci), "%08x:%02x:%02x.0", (unsigned)p.pciDomainID, (unsigned)p.pciBusID,
                 (unsigned)p.pciDeviceID);
        format_uuid(p.uuid.bytes, c->uuid);
        if (nvml)
            nvml_ask(nvml, c);
        *n = i + 1;
    }
    nvml_close(nvml);
    return 0;
}

int cuda_peer(int from, int to, bool *out, struct err *e)
{
    int can = 0;
    cudaError_t rc = cudaDeviceCanAccessPeer(&can, from, to);
    *out = rc == cudaSuccess && can != 0;
    if (rc == cudaSuccess)
        return 0;
    cudaGetLastError();
    FAIL(e, ERR_DEVICE, "cuda: whether card %d reaches the memory of card %d: %s, expected an answer. Does nvidia-smi work?", from, to,
         cudaGetErrorString(rc));
}

/* A library that is only used where it is there: ", cuDNN 9.18.1" is added to what stands in out. */
static void add_version(char *out, size_t size, const char *label, const char *file, const char *function, bool returned)
{
    size_t n = strlen(out);
    void *library = dlopen(file, RTLD_LAZY | RTLD_LOCAL), *f = library ? dlsym(library, function) : NULL;
    long v = 0;
    if (f && returned)
        v = (long)((size_t(*)(void))f)();
    else if (f) {
        int told = 0;
        v = ((int (*)(int *))f)(&told) == 0 ? told : 0;
    }
    if (v > 0) /* both count major * 10000 + minor * 100 + patch */
        snprintf(out + n, size - n, ", %s %ld.%ld.%ld", label, v / 10000, v / 100 % 100, v % 100);
    else
        snprintf(out + n, size - n, ", no %s", label);
    if (library)
        dlclose(library);
}

void cuda_versions(char *out, size_t size)
{
    int driver = 0, runtime = 0;
    size_t lt = cublasLtGetVersion();
    char in_words[32] = "no driver";
    cudaRuntimeGetVersion(&runtime);
    cudaDriverGetVersion(&driver);
    cudaGetLastError();
    if (driver > 0)
        snprintf(in_words, sizeof(in_words), "driver of CUDA %d.%d", driver / 1000, driver % 1000 / 10);
    snprintf(out, size, "CUDA %d.%d, %s, cuBLASLt %zu.%zu.%zu", runtime / 1000, runtime % 1000 / 10, in_words, lt / 10000,
             lt / 100 % 100, lt % 100);
    add_version(out, size, "cuDNN", "libcudnn.so.9", "cudnnGetVersion", true);
    add_version(out, size, "NCCL", "libnccl.so.2", "ncclGetVersion", false);
}

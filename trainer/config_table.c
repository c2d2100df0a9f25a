#include "trainer/config_table.h"

#include <stdio.h>
#include <string.h>

#include "datasets/chat.h"
#include "trainer/base/nearest.h"

static const char *const too_long_words[] = {"auto", "split", "drop", "truncate", NULL};
static const char *const scaling_words[] = {"standard", "rslora", NULL};
static const char *const schedule_words[] = {"cosine", "linear", "constant", NULL};
static const char *const device_words[] = {"auto", "cpu", "cuda", NULL};
static const char *const parallel_words[] = {"auto", "data", "sharded", NULL};
static const char *const interconnect_words[] = {"auto", "nvlink", "pcie", NULL};
static const char *const placement_words[] = {"resident", "host", NULL};
static const char *const precision_words[] = {"auto", "bf16", "f32", NULL};
static const char *const recompute_words[] = {"auto", "none", "selective", "full", NULL};
#define X(id, name, adds) name,
static const char *const template_words[] = {"auto", CHAT_TEMPLATES(X) NULL};
#undef X
_Static_assert(sizeof(enum cfg_device) == sizeof(int), "TYPE_CHOICE stores an int");

#define FIELD(field)     .offset = offsetof(struct config, field), .size = sizeof((struct config *)0)->field
#define RANGE(low, high) .min = (low), .max = (high)

const struct config_key config_keys[] = {
    {"name", TYPE_NAME, FIELD(name), .resume = RESUME_SAID,
     .meaning = "The run's name: everything it writes goes to runs/<name>/. Letters, digits, dot, underscore and dash."},
    {"seed", TYPE_INT64, FIELD(seed), RANGE(0, 9007199254740991.0), .preset = "42", .resume = RESUME_REFUSED,
     .meaning = "Decides the start of A, the order of the samples and dropout. The same seed gives the same run."},

    {"model.path", TYPE_TEXT, FIELD(model.path), .resume = RESUME_SAID,
     .meaning = "The base model: a Hugging Face folder (config.json, *.safetensors, tokenizer.json) or one .gguf file. Relative "
                "to the folder where the command runs; ~ is your home.",
     .cost = "2 bytes for each of its parameters in bf16, 4 in f32: an 8B model takes 16 GB."},
    {"model.placement", TYPE_CHOICE, FIELD(model.placement), .choices = placement_words, .preset = "resident", .resume = RESUME_FREE,
     .meaning = "Where the base's blocks stay: resident on the device, or in host memory, from where each is copied while the one before it "
                "computes. The results are the same, bit for bit.",
     .cost = "host: the base's size in host memory; slower where a pass has too few tokens to hide the copies (docs/plan.md)."},

    {"data.train", TYPE_TEXT, FIELD(data.train), .resume = RESUME_SAID,
     .meaning = "The dataset, as `lorat data build` writes it. Its validation group, if there is one, is what evaluation uses."},
    {"data.template", TYPE_WORD, FIELD(data.tmpl), .choices = template_words, .preset = "auto", .resume = RESUME_SAID,
     .meaning = "The chat template that eval.prompts are put into. auto is the model's own. The dataset keeps the one it was "
                "built with."},
    {"data.sequence_length", TYPE_INT32, FIELD(data.sequence_length), RANGE(8, 1048576), .preset = "2048",
     .resume = RESUME_REFUSED,
     .meaning = "Tokens in one row of a batch, and the longest document that stays whole (data.too_long).",
     .cost = "Activations grow with micro_batch x sequence_length; with recompute: full an 8B model keeps 262 kB a token."},
    {"data.packing", TYPE_BOOL, FIELD(data.packing), .preset = "true", .resume = RESUME_REFUSED,
     .meaning = "Put several documents in one row. They do not see one another; positions restart with each.",
     .cost = "Without it a row holds one document: fewer tokens a step."},
    {"data.shuffle", TYPE_BOOL, FIELD(data.shuffle), .preset = "true", .resume = RESUME_REFUSED,
     .meaning = "A new order of the documents in each epoch, decided by the seed. false: the dataset's own order."},
    {"data.too_long", TYPE_CHOICE, FIELD(data.too_long), .choices = too_long_words, .preset = "auto", .resume = RESUME_REFUSED,
     .meaning = "Documents longer than sequence_length: split into windows, drop, or truncate their tail. auto splits text and "
                "truncates chat."},
    {"data.allow_unsealed", TYPE_BOOL, FIELD(data.allow_unsealed), .preset = "false", .resume = RESUME_FREE,
     .meaning = "Accept an HDF5 file that lorat did not seal. It is first opened in a separate process, because a damaged HDF5 "
                "file can crash the library that reads it."},

    {"lora.rank", TYPE_INT32, FIELD(lora.rank), RANGE(1, 1024), .preset = "16", .resume = RESUME_REFUSED,
     .meaning = "The inner size R of every pair B (out, R) x A (R, in).",
     .cost = "16 bytes for each adapter parameter (master, gradient, two moments): rank 16 on all linears of an 8B model is 42 M "
             "parameters, 0.67 GB."},
    {"lora.alpha", TYPE_NUMBER, FIELD(lora.alpha), RANGE(0, 1e6), .preset = "32", .resume = RESUME_REFUSED,
     .meaning = "The adapter's output is multiplied by alpha / rank (see lora.scaling)."},
    {"lora.dropout", TYPE_NUMBER, FIELD(lora.dropout), RANGE(0, 0.95), .preset = "0.0", .resume = RESUME_REFUSED,
     .meaning = "Share of the adapter's inputs that is zeroed while training.",
     .cost = "0 is fastest: the masked input is one more tensor."},
    {"lora.targets", TYPE_TARGETS, FIELD(lora.targets), .preset = "all-linear", .resume = RESUME_REFUSED,
     .meaning =
         "The linears that get an adapter: all-linear, attention (q, k, v, o), mlp (gate, up, down), or a list of module names.",
     .cost = "Adapter parameters per linear: rank x (in + out)."},
    {"lora.scaling", TYPE_CHOICE, FIELD(lora.scaling), .choices = scaling_words, .preset = "standard", .resume = RESUME_REFUSED,
     .meaning = "standard: alpha / rank. rslora: alpha / sqrt(rank), which keeps the update's size at high ranks."},
    {"lora.start_from", TYPE_TEXT, FIELD(lora.start_from), .zero = "null", .preset = "null", .resume = RESUME_REFUSED,
     .meaning = "Begin with the weights of this PEFT adapter folder instead of a fresh one."},

    {"train.epochs", TYPE_NUMBER, FIELD(train.epochs), RANGE(0.001, 100000), .zero = "null", .preset = "3", .resume = RESUME_SAID,
     .meaning = "Passes over the dataset; a fraction of one is fine. When max_steps is given and epochs is not, this is null. "
                "With both, whichever ends first ends the run."},
    {"train.max_steps", TYPE_INT64, FIELD(train.max_steps), RANGE(1, 1e9), .zero = "null", .preset = "null",
     .resume = RESUME_SAID, .meaning = "Optimizer steps at most."},
    {"train.batch", TYPE_INT32, FIELD(train.batch), RANGE(1, 65536), .preset = "8", .resume = RESUME_REFUSED,
     .meaning = "Rows in one optimizer step, over all cards and micro-batches.",
     .cost = "Time only: memory follows micro_batch."},
    {"train.micro_batch", TYPE_INT32, FIELD(train.micro_batch), RANGE(1, 65536), .zero = "auto", .preset = "auto",
     .resume = RESUME_FREE,
     .meaning =
         "Rows that go through the model at a time; divides batch. auto: with compute.recompute the fastest that fits. Changes "
         "nothing but rounding.",
     .cost = "Activations: see data.sequence_length. `lorat plan JOB` prints them."},
    {"train.learning_rate", TYPE_NUMBER, FIELD(train.learning_rate), RANGE(0, 10), .preset = "2.0e-4", .resume = RESUME_SAID,
     .meaning = "AdamW's step size after warm-up. 1.0e-4 to 2.0e-4 suits 7B and 8B models, 1.0e-3 very small ones."},
    {"train.schedule", TYPE_CHOICE, FIELD(train.schedule), .choices = schedule_words, .preset = "cosine", .resume = RESUME_SAID,
     .meaning = "How the learning rate falls after warm-up: to 0 along a cosine or a line, or not at all."},
    {"train.warmup_steps", TYPE_INT64, FIELD(train.warmup_steps), RANGE(0, 1e9), .preset = "10", .resume = RESUME_SAID,
     .meaning = "Steps in which the learning rate rises in a line to its full value."},
    {"train.weight_decay", TYPE_NUMBER, FIELD(train.weight_decay), RANGE(0, 10), .preset = "0.0", .resume = RESUME_SAID,
     .meaning = "Decoupled weight decay of AdamW, on A and B."},
    {"train.beta1", TYPE_NUMBER, FIELD(train.beta1), RANGE(0, 0.9999), .preset = "0.9", .resume = RESUME_SAID,
     .meaning = "Decay of AdamW's first moment."},
    {"train.beta2", TYPE_NUMBER, FIELD(train.beta2), RANGE(0, 0.999999), .preset = "0.999", .resume = RESUME_SAID,
     .meaning = "Decay of AdamW's second moment."},
    {"train.epsilon", TYPE_NUMBER, FIELD(train.epsilon), RANGE(1e-16, 1), .preset = "1.0e-8", .resume = RESUME_SAID,
     .meaning = "AdamW's guard against division by zero, added outside the square root."},
    {"train.max_grad_norm", TYPE_NUMBER, FIELD(train.max_grad_norm), RANGE(0, 1e6), .preset = "1.0", .resume = RESUME_SAID,
     .meaning = "Gradients with a larger L2 norm are scaled down to it. 0: never."},
    {"train.max_skipped", TYPE_INT32, FIELD(train.max_skipped), RANGE(1, 1000000), .preset = "10", .resume = RESUME_SAID,
     .meaning = "A step whose loss or gradient is not finite is skipped; after this many in a row the run gives up."},

    {"compute.device", TYPE_CHOICE, FIELD(compute.device), .choices = device_words, .preset = "auto", .resume = RESUME_SAID,
     .meaning = "Where to train. auto: the GPU when there is one, else the CPU. Another device gives other rounding."},
    {"compute.gpus", TYPE_CARDS, FIELD(compute.gpus), .zero = "auto", .preset = "auto", .resume = RESUME_FREE,
     .meaning = "The cards to train on, as `lorat version` numbers them, such as [0, 1]. auto: every card of the machine that is like the one "
                "with the most free memory."},
    {"compute.ranks", TYPE_INT32, FIELD(compute.ranks), RANGE(1, 16), .preset = "1", .resume = RESUME_FREE,
     .meaning = "Processes that share a step's rows on the CPU, each with its share of the cores. On CUDA there is one for each card of "
                "compute.gpus."},
    {"compute.parallel", TYPE_CHOICE, FIELD(compute.parallel), .choices = parallel_words, .preset = "auto", .resume = RESUME_FREE,
     .meaning = "With several ranks: data (each holds the whole base; what others call DDP) or sharded (each holds its share of every block; "
                "what others call FSDP or ZeRO-3). auto: the first that fits."},
    {"compute.interconnect", TYPE_CHOICE, FIELD(compute.interconnect), .choices = interconnect_words, .preset = "auto", .resume = RESUME_FREE,
     .meaning = "The way between two cards: nvlink or pcie, refused when the machine does not have it. auto is NCCL's choice."},
    {"compute.peer_timeout", TYPE_NUMBER, FIELD(compute.peer_timeout), RANGE(0.1, 86400), .preset = "30", .resume = RESUME_FREE,
     .meaning = "Seconds without any progress of a rank after which it is taken for hung and the run ends (ten times as much while it starts "
                "or saves, and for work queued on a card)."},
    {"compute.precision", TYPE_CHOICE, FIELD(compute.precision), .choices = precision_words, .preset = "auto",
     .resume = RESUME_REFUSED,
     .meaning = "Type of the base and the activations. auto: bf16 where the device multiplies it natively, else f32. Adapter, "
                "moments, loss and every sum are F32 either way.",
     .cost = "f32 doubles the base and the activations."},
    {"compute.recompute", TYPE_CHOICE, FIELD(compute.recompute), .choices = recompute_words, .preset = "auto",
     .resume = RESUME_FREE,
     .meaning = "What the backward pass computes again instead of keeping: none, selective (norms and MLP), full (each block "
                "from its input). auto: with train.micro_batch the fastest that fits. All give the same gradients, bit for bit.",
     .cost = "full: about 1.4 times the work of none, and the least memory."},
    {"compute.memory_limit", TYPE_BYTES, FIELD(compute.memory_limit), RANGE(1048576, 1125899906842624.0), .zero = "null",
     .preset = "null", .resume = RESUME_FREE,
     .meaning = "The most device memory the plan may use, such as 22GiB. null: what is free when the run starts."},
    {"compute.threads", TYPE_INT32, FIELD(compute.threads), RANGE(1, 4096), .zero = "null", .preset = "null",
     .resume = RESUME_SAID, .meaning = "CPU threads of a rank. null: one for each core, shared by the ranks. Another number gives other rounding."},

    {"eval.every", TYPE_EVERY, FIELD(eval.every), .zero = "null", .preset = "100", .resume = RESUME_FREE,
     .meaning = "Evaluate after so many steps, or so much time. It also happens before the first step and at the end, whatever "
                "this says.",
     .cost = "A forward pass over the validation group."},
    {"eval.max_tokens", TYPE_INT64, FIELD(eval.max_tokens), RANGE(1, 1e12), .zero = "null", .preset = "null",
     .resume = RESUME_FREE, .meaning = "Evaluate on the first so many tokens of the validation group only. null: on all of it."},
    {"eval.prompts", TYPE_PROMPTS, FIELD(eval.prompts), .preset = "[]", .resume = RESUME_FREE,
     .meaning = "Questions that the model answers at each evaluation, so that you can read how it changes."},
    {"eval.answer_tokens", TYPE_INT32, FIELD(eval.answer_tokens), RANGE(1, 65536), .preset = "64", .resume = RESUME_FREE,
     .meaning = "The longest answer to a prompt, in tokens.", .cost = "Time: a forward pass for each token."},

    {"checkpoint.every", TYPE_EVERY, FIELD(checkpoint.every), .zero = "null", .preset = "10min", .resume = RESUME_FREE,
     .meaning = "Save after so many steps, or so much time. The end of a run and a requested stop are always saved.",
     .cost = "Disk: 12 bytes for each adapter parameter, 0.5 GB for rank 16 on an 8B model."},
    {"checkpoint.keep", TYPE_INT32, FIELD(checkpoint.keep), RANGE(1, 1000000), .preset = "3", .resume = RESUME_FREE,
     .meaning = "The newest so many checkpoints stay on the disk."},
    {"checkpoint.keep_best", TYPE_BOOL, FIELD(checkpoint.keep_best), .preset = "false", .resume = RESUME_FREE,
     .meaning = "Also keep the checkpoint with the lowest evaluation loss."},
};
const int config_n_keys = (int)(sizeof config_keys / sizeof config_keys[0]);
_Static_assert(sizeof config_keys / sizeof config_keys[0] <= CONFIG_MAX_KEYS, "CONFIG_MAX_KEYS");

const struct config_key *config_find(const char *name)
{
    for (int i = 0; i < config_n_keys; i++)
        if (strcmp(config_keys[i].name, name) == 0)
            return &config_keys[i];
    return NULL;
}

const char *config_section(const struct config_key *key, char out[32])
{
    const char *dot = strchr(key->name, '.');
    snprintf(out, 32, "%.*s", dot != NULL ? (int)(dot - key->name) : 0, key->name);
    return out;
}

/* What other trainers call the same thing. */
static const char *foreign_name(const char *key)
{
    static const char *const names[][2] = {
        {"lr", "train.learning_rate"},
        {"r", "lora.rank"},
        {"lora_r", "lora.rank"},
        {"lora_alpha", "lora.alpha"},
        {"lora_dropout", "lora.dropout"},
        {"target_modules", "lora.targets"},
        {"num_epochs", "train.epochs"},
        {"num_train_epochs", "train.epochs"},
        {"batch_size", "train.batch"},
        {"micro_batch_size", "train.micro_batch"},
        {"per_device_train_batch_size", "train.micro_batch"},
        {"gradient_accumulation_steps", "train.batch"},
        {"base_model", "model.path"},
        {"model_name_or_path", "model.path"},
        {"dataset", "data.train"},
        {"max_seq_length", "data.sequence_length"},
        {"sequence_len", "data.sequence_length"},
        {"sample_packing", "data.packing"},
        {"lr_scheduler", "train.schedule"},
        {"lr_scheduler_type", "train.schedule"},
        {"save_steps", "checkpoint.every"},
        {"eval_steps", "eval.every"},
        {"gradient_checkpointing", "compute.recompute"},
        {"bf16", "compute.precision"},
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i][0], key) == 0)
            return names[i][1];
    return NULL;
}

/* The whole key whose last word is `word`, in another section; NULL when none. */
static const char *same_word(const char *word)
{
    for (int i = 0; i < config_n_keys; i++) {
        const char *dot = strchr(config_keys[i].name, '.');
        if (dot != NULL && strcmp(dot + 1, word) == 0)
            return config_keys[i].name;
    }
    return NULL;
}

/* Words that may stand in a section: its keys, or at the top the single keys and the sections. */
static int section_words(const char *section, char words[CONFIG_MAX_KEYS][32])
{
    int n = 0;
    for (int i = 0; i < config_n_keys; i++) {
        char own[32];
        config_section(&config_keys[i], own);
        const char *word =
            section[0] == '\0' && own[0] != '\0' ? own : config_keys[i].name + (own[0] != '\0' ? strlen(own) + 1 : 0);
        if (section[0] != '\0' && strcmp(own, section) != 0)
            continue;
        if (n > 0 && strcmp(words[n - 1], word) == 0)
            continue;
        snprintf(words[n++], 32, "%s", word);
    }
    return n;
}

void config_suggest(const char *section, const char *key, char *out, size_t n)
{
    char words[CONFIG_MAX_KEYS][32];
    const char *candidates[CONFIG_MAX_KEYS], *names[CONFIG_MAX_KEYS];
    int n_words = section_words(section, words);
    for (int i = 0; i < n_words; i++)
        candidates[i] = words[i];
    for (int i = 0; i < config_n_keys; i++)
        names[i] = config_keys[i].name;
    const char *dot = section[0] != '\0' ? "." : "", *near;
    if ((near = foreign_name(key)) != NULL || (near = same_word(key)) != NULL) {
        snprintf(out, n, ", did you mean %s?", near);
    } else if ((near = nearest_word(key, candidates, (size_t)n_words)) != NULL) {
        snprintf(out, n, ", did you mean %s%s%s?", section, dot, near);
    } else if (strchr(key, '.') != NULL && (near = nearest_word(key, names, (size_t)config_n_keys)) != NULL) {
        snprintf(out, n, ", did you mean %s?", near);
    } else {
        snprintf(out, n, ", expected ");
        for (int i = 0; i < n_words; i++)
            snprintf(out + strlen(out), n - strlen(out), "%s%s", i == 0 ? "" : i == n_words - 1 ? " or " : ", ", words[i]);
    }
}

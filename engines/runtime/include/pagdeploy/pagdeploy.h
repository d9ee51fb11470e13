/* Open a bundle that `pagdeploy build` wrote, and run its engine.
 *
 *     pag_bundle* bundle;     the folder: checked, inspected, nothing of it interpreted yet
 *     pag_engine* engine;     loaded once, shared by all threads
 *     pag_context* context;   one per thread: tensors bound by name, run on the caller's stream
 *
 * Every call that can fail returns a pag_status; pag_message() and pag_remedy() then say in a sentence
 * each what is wrong and what to do, for the calling thread. No exception leaves the library and no
 * input ends the process. A failed call changes nothing: what it should have made is NULL, what was
 * bound stays bound.
 *
 * Objects are counted: an engine keeps its bundle and a context keeps its engine, so they may be
 * released in any order. Release functions take NULL. A bundle and an engine may be used by many
 * threads at once; a context by one at a time, and what calls it meanwhile gets PAG_USAGE. Strings
 * and arrays that a call hands out live as long as the object that they belong to, unless it says
 * otherwise.
 *
 * The ABI only grows. A struct begins with its size, which the caller sets to sizeof: the library
 * reads and writes no further, and what an older caller leaves out is zero, the default. Functions
 * and enumerators are never removed or renumbered.
 *
 * Needs no header of TensorRT, CUDA or onnxruntime, and links to none of them: they are found when an
 * engine is made. C++ programs include pagdeploy.hpp.
 */
#ifndef PAGDEPLOY_PAGDEPLOY_H
#define PAGDEPLOY_PAGDEPLOY_H

#include <stddef.h>
#include <stdint.h>

#define PAG_ABI_VERSION 1

#if defined(_WIN32)
#define PAG_API __declspec(dllimport)
#elif defined(__GNUC__)
#define PAG_API __attribute__((visibility("default")))
#else
#define PAG_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* The same numbers as the exit codes of the command line. */
typedef enum pag_status {
    PAG_OK = 0,
    PAG_USAGE = 2,        /* the call is wrong: a name, a shape, a pointer, an order of calls */
    PAG_ENVIRONMENT = 3,  /* a library, a driver, a GPU or memory is missing here */
    PAG_INCOMPATIBLE = 4, /* the bundle is damaged, or not for this runtime or GPU */
    PAG_FAILED = 5        /* the engine refused or broke off */
} pag_status;

/* Numbered as in ONNX (TensorProto.DataType). Dtypes and memories are passed as int32_t: an enum that
 * holds another number than its own is undefined behaviour before it can be refused. */
typedef enum pag_dtype {
    PAG_FLOAT32 = 1,
    PAG_UINT8 = 2,
    PAG_INT8 = 3,
    PAG_INT32 = 6,
    PAG_INT64 = 7,
    PAG_BOOL = 9,
    PAG_FLOAT16 = 10,
    PAG_FLOAT64 = 11,
    PAG_BFLOAT16 = 16
} pag_dtype;

typedef enum pag_memory {
    PAG_HOST = 0,
    PAG_DEVICE = 1 /* of the engine's GPU */
} pag_memory;

typedef enum pag_severity { PAG_ERROR = 0, PAG_WARNING = 1, PAG_INFO = 2 } pag_severity;

#define PAG_MAX_RANK 8

typedef struct pag_bundle pag_bundle;
typedef struct pag_engine pag_engine;
typedef struct pag_context pag_context;

/* An input or output, as the model declares it. */
typedef struct pag_tensor_info {
    size_t struct_size;
    const char* name;
    int32_t dtype; /* a pag_dtype */
    int32_t rank;
    int64_t shape[PAG_MAX_RANK];          /* -1 where the size is dynamic */
    const char* dim_names[PAG_MAX_RANK];  /* of dynamic sizes, else "" */
    int64_t sample_shape[PAG_MAX_RANK];   /* of the request that the bundle was verified with */
    double sample_range[2];               /* smallest and largest value there */
} pag_tensor_info;

/* A gate: where it decided which share of pixels, on the sample. */
typedef struct pag_gate_info {
    size_t struct_size;
    const char* name;
    int32_t branches;
    const double* density; /* [branches] */
} pag_gate_info;

/* A tensor of a finished run. */
typedef struct pag_tensor {
    size_t struct_size;
    void* data;
    size_t bytes;
    int32_t dtype;  /* a pag_dtype */
    int32_t memory; /* a pag_memory */
    int32_t rank;
    int64_t shape[PAG_MAX_RANK];
} pag_tensor;

typedef void (*pag_log)(void* user, int32_t severity, const char* message);

typedef struct pag_engine_options {
    size_t struct_size;
    /* Folder of the back-end libraries; NULL: the folder of this library. */
    const char* backend_directory;
    /* The onnxruntime or TensorRT library; NULL: as the dynamic loader finds it. The first engine of
     * a process decides: a second copy of either would share nothing with it. */
    const char* runtime_library;
    int32_t device;          /* number of the GPU */
    int32_t threads;         /* inside of one operator, on a CPU; 0: one per core */
    int32_t allow_host_code; /* let libraries run that come with the bundle: trust whoever built it */
    pag_log log;             /* may be called from any thread, throws nothing; NULL: silence */
    void* log_user;
} pag_engine_options;

/* Memory for an output whose size is known only when it is computed. `bytes` may be zero. It is to stay
 * valid until the next call for that name, or until the context is released. NULL fails the run. It
 * must not throw. */
typedef void* (*pag_allocate)(void* user, const char* name, size_t bytes, int32_t memory);

typedef struct pag_context_options {
    size_t struct_size;
    /* Of a plan's optimization profiles, counted from one; 0: the first that takes the inputs. */
    int32_t profile;
    /* For outputs that are not bound; NULL: the context keeps memory of its own. */
    pag_allocate allocate;
    void* allocate_user;
} pag_context_options;

/* ---- this library ---- */

PAG_API uint32_t pag_abi_version(void);
PAG_API const char* pag_version(void);

/* Of the last call that failed on this thread; "" before. Valid until the next that fails. */
PAG_API const char* pag_message(void);
PAG_API const char* pag_remedy(void);

/* ---- bundle ---- */

/* Read the manifest and check every file against it; no engine byte is interpreted.
 * PAG_USAGE: there is no bundle at `path`. PAG_INCOMPATIBLE: it was changed, leaves its folder, or is of
 * another format version. */
PAG_API pag_status pag_bundle_open(const char* path, pag_bundle** bundle);
PAG_API void pag_bundle_release(pag_bundle* bundle);

/* The manifest as JSON text. */
PAG_API const char* pag_bundle_manifest(const pag_bundle* bundle);
/* "onnxruntime", "onnxruntime-cuda", "tensorrt" or "tensorrt-rtx". */
PAG_API const char* pag_bundle_engine(const pag_bundle* bundle);

PAG_API size_t pag_bundle_input_count(const pag_bundle* bundle);
PAG_API size_t pag_bundle_output_count(const pag_bundle* bundle);
PAG_API size_t pag_bundle_gate_count(const pag_bundle* bundle);
/* PAG_USAGE: there are not so many, or struct_size is zero. */
PAG_API pag_status pag_bundle_input(const pag_bundle* bundle, size_t index, pag_tensor_info* info);
PAG_API pag_status pag_bundle_output(const pag_bundle* bundle, size_t index, pag_tensor_info* info);
PAG_API pag_status pag_bundle_gate(const pag_bundle* bundle, size_t index, pag_gate_info* info);

/* ---- engine ---- */

/* Load the back end, then the bundle's engine. `options` may be NULL.
 * PAG_ENVIRONMENT: the back end, its runtime or a GPU is missing. PAG_INCOMPATIBLE: the engine is for
 * another version or GPU, or keeps weights in another file. PAG_USAGE: the bundle brings code and that is
 * not allowed.
 *
 * The first engine of onnxruntime sets ORT_DISABLE_TELEMETRY=1 in the process's environment where it is
 * not set: make it before other threads read the environment, or set the variable. */
PAG_API pag_status pag_engine_create(pag_bundle* bundle, const pag_engine_options* options,
                                     pag_engine** engine);
PAG_API void pag_engine_release(pag_engine* engine);

/* Name and full version of the runtime, such as "onnxruntime 1.20.1". */
PAG_API const char* pag_engine_runtime(const pag_engine* engine);

/* ---- context ---- */

PAG_API pag_status pag_context_create(pag_engine* engine, const pag_context_options* options,
                                      pag_context** context);
/* Not before the stream of its last run has passed that run. */
PAG_API void pag_context_release(pag_context* context);

/* Bind memory of the caller to an input, without a copy where the engine can read it there. It is read
 * during pag_context_run, until whose stream has passed it has to stay as it is. `shape` has no -1, and
 * `bytes` is its size at least. Memory is aligned to its elements, for TensorRT device memory to 256 bytes.
 * PAG_USAGE: no such input, another dtype, a shape that the model does not take, too few bytes, memory
 * that is not aligned, device memory for an engine that runs on the CPU. */
PAG_API pag_status pag_context_bind_input(pag_context* context, const char* name, const void* data,
                                          size_t bytes, int32_t dtype, const int64_t* shape,
                                          int32_t rank, int32_t memory);

/* Bind memory of the caller to an output; `bytes` is what it has room for. data NULL: unbind. */
PAG_API pag_status pag_context_bind_output(pag_context* context, const char* name, void* data,
                                           size_t bytes, int32_t dtype, int32_t memory);

/* Give a scalar input, such as a budget, its value; the context keeps it. */
PAG_API pag_status pag_context_set_scalar(pag_context* context, const char* name, double value);

/* Run. TensorRT enqueues on `stream` (a cudaStream_t; NULL: the default stream) and returns once all
 * is enqueued; with host memory bound, or outputs of unknown size, it waits. The next run goes to the
 * same stream, or waits until the last one has passed its own. onnxruntime computes before it returns,
 * and `stream` must be NULL.
 * PAG_USAGE: an input is not bound, shapes disagree, an output does not fit. */
PAG_API pag_status pag_context_run(pag_context* context, void* stream);

/* An output of the last run: the bound memory, or what was allocated. Valid until the next run. */
PAG_API pag_status pag_context_output(const pag_context* context, const char* name,
                                      pag_tensor* tensor);

/* Run once and record it as a CUDA graph: later runs replay it until something is bound anew, which
 * ends it. Wants device memory for every input and output, and a stream that is not the default one.
 * PAG_USAGE: the engine runs on a CPU, or host memory is bound. PAG_FAILED: it cannot be recorded. */
PAG_API pag_status pag_context_capture(pag_context* context, void* stream);

#ifdef __cplusplus
}
#endif

#endif /* PAGDEPLOY_PAGDEPLOY_H */

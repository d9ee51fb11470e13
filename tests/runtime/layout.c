/* Prints what programs are compiled against: the offset and size of every field, every enumerator.
 * Written in C, so that the header is held to it. */
#include "pagdeploy/pagdeploy.h"

#include <stdio.h>

#define STRUCT(name) printf("struct %s %zu\n", #name, sizeof(struct name))
#define FIELD(name, field) \
    printf("field %s.%s %zu %zu\n", #name, #field, offsetof(struct name, field), \
           sizeof(((struct name*)0)->field))
#define VALUE(name) printf("value %s %d\n", #name, (int)(name))

int main(void) {
    STRUCT(pag_tensor_info);
    FIELD(pag_tensor_info, struct_size);
    FIELD(pag_tensor_info, name);
    FIELD(pag_tensor_info, dtype);
    FIELD(pag_tensor_info, rank);
    FIELD(pag_tensor_info, shape);
    FIELD(pag_tensor_info, dim_names);
    FIELD(pag_tensor_info, sample_shape);
    FIELD(pag_tensor_info, sample_range);

    STRUCT(pag_gate_info);
    FIELD(pag_gate_info, struct_size);
    FIELD(pag_gate_info, name);
    FIELD(pag_gate_info, branches);
    FIELD(pag_gate_info, density);

    STRUCT(pag_tensor);
    FIELD(pag_tensor, struct_size);
    FIELD(pag_tensor, data);
    FIELD(pag_tensor, bytes);
    FIELD(pag_tensor, dtype);
    FIELD(pag_tensor, memory);
    FIELD(pag_tensor, rank);
    FIELD(pag_tensor, shape);

    STRUCT(pag_engine_options);
    FIELD(pag_engine_options, struct_size);
    FIELD(pag_engine_options, backend_directory);
    FIELD(pag_engine_options, runtime_library);
    FIELD(pag_engine_options, device);
    FIELD(pag_engine_options, threads);
    FIELD(pag_engine_options, allow_host_code);
    FIELD(pag_engine_options, log);
    FIELD(pag_engine_options, log_user);

    STRUCT(pag_context_options);
    FIELD(pag_context_options, struct_size);
    FIELD(pag_context_options, profile);
    FIELD(pag_context_options, allocate);
    FIELD(pag_context_options, allocate_user);

    VALUE(PAG_ABI_VERSION);
    VALUE(PAG_MAX_RANK);
    VALUE(PAG_OK);
    VALUE(PAG_USAGE);
    VALUE(PAG_ENVIRONMENT);
    VALUE(PAG_INCOMPATIBLE);
    VALUE(PAG_FAILED);
    VALUE(PAG_FLOAT32);
    VALUE(PAG_UINT8);
    VALUE(PAG_INT8);
    VALUE(PAG_INT32);
    VALUE(PAG_INT64);
    VALUE(PAG_BOOL);
    VALUE(PAG_FLOAT16);
    VALUE(PAG_FLOAT64);
    VALUE(PAG_BFLOAT16);
    VALUE(PAG_HOST);
    VALUE(PAG_DEVICE);
    VALUE(PAG_ERROR);
    VALUE(PAG_WARNING);
    VALUE(PAG_INFO);
    return 0;
}

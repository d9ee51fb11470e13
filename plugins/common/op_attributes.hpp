// The attributes of every op as one plain struct an op, made from the generated table.
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

namespace pagdeploy {

namespace attribute_kinds {
using ints = std::vector<std::int32_t>;
using float_t = float;
using int_t = std::int32_t;
}  // namespace attribute_kinds

// The table's kinds as C++ types; `int` and `float` are keywords, so the kind is pasted.
#define PAG_KIND_int attribute_kinds::int_t
#define PAG_KIND_ints attribute_kinds::ints
#define PAG_KIND_float attribute_kinds::float_t

// PAGGate has no attributes.
struct PAGGateAttributes {};

template <typename Attributes, typename Visitor>
void visitPAGGate(Attributes&&, Visitor&&) {}

// Attributes of PerforatedConv; see docs/ops.md. `kernel_shape` has no default.
struct PerforatedConvAttributes {
#define PAG_FIELDS_PerforatedConv(field, kind, ...) PAG_KIND_##kind field{__VA_ARGS__};
#define PAG_FIELD(op, field, kind, ...) PAG_FIELDS_##op(field, kind, __VA_ARGS__)
#include "ops.inc"
#undef PAG_FIELDS_PerforatedConv
};

// Calls visit(name, value) for each attribute, in the table's order.
template <typename Attributes, typename Visitor>
void visitPerforatedConv(Attributes&& attributes, Visitor&& visit) {
#define PAG_FIELDS_PerforatedConv(field, kind, ...) visit(#field, attributes.field);
#define PAG_FIELD(op, field, kind, ...) PAG_FIELDS_##op(field, kind, __VA_ARGS__)
#include "ops.inc"
#undef PAG_FIELDS_PerforatedConv
}

#undef PAG_KIND_int
#undef PAG_KIND_ints
#undef PAG_KIND_float

}  // namespace pagdeploy

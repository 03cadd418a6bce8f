// How modules show their parameters, and what each parameter is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "weights/part.h"

namespace hone {

enum class Role {
  embedding,         // [vocabulary, dim]: looked up in, and where it is tied also the head
  position,          // [context, dim]: looked up in
  gain,              // of a norm
  bias,              // of a norm or a linear layer
  qkv,               // queries, keys and values in one matrix
  attention_output,  // back into the residual stream
  // Of a mixer without queries, keys and values. `parts` says the rows of what lies one below the other in it; each has
  // the rows of one head after those of the other, equally many of each.
  mixer_input,   // from the normalized stream
  mixer_array,   // small, f32: factors, decays; without parts it is no head's
  mixer_output,  // [dim, heads * head_dim]: back into the residual stream
  up,            // into the feed-forward; with gates, these first
  down,          // back into the residual stream
  router,        // [experts, dim]
  router_bias,   // [experts]: moved by balancing, not by gradients
  shared_gate,   // [1, dim]: how much a token takes of the shared experts
  depth_router,  // [outputs, dim or hidden]: which tokens go through a layer, and who predicts that
  encoder,       // [dim, width]: from features of an image or sound to rows; and what its own layers have
  encoder_row,   // rows of an encoder that are added or looked up: its mark, delimiters, positions
  similarity,    // [2]: of media that are aligned (ops/contrastive.h)
  head,
};

// True for the matrices that products run on, whatever else they are used for: all weights but an embedding.
constexpr bool is_linear(Role role) {
  return role == Role::qkv || role == Role::attention_output || role == Role::mixer_input ||
         role == Role::mixer_output || role == Role::up || role == Role::down || role == Role::head;
}
// True for those that read the norm before half a block.
constexpr bool begins_branch(Role role) {
  return role == Role::qkv || role == Role::mixer_input || role == Role::up;
}
// True for those whose product is added to the residual stream.
constexpr bool ends_branch(Role role) {
  return role == Role::attention_output || role == Role::mixer_output || role == Role::down;
}

// What a norm is before, or of.
enum class NormOf {
  none,  // the parameter is of no norm
  mixer,
  feed_forward,
  query,  // each head of queries
  key,
  depth_router,
  exit,
  last  // before the head
};

struct ParameterInfo {
  std::string name;  // the path in the model file
  Role role = Role::bias;
  int64_t layer = -1;   // -1: of no block
  int64_t expert = -1;  // -1: of no routed expert
  bool gated = false;   // of Role::up and its bias: the first half of the rows are gates
  Role of = role;       // of a bias: the role of the matrix it belongs to; of all in an encoder's body: encoder
  bool shared = false;  // of the experts that every token goes through
  int64_t kind = -1;    // only rows of this kind go through it: 0 text, then one for each encoder; -1: all rows
  RankPart part = {};   // what this rank has of it, where several divide the model
  // Of a weight that holds several matrices, one below the other (queries, keys and values; gates and values), and of
  // its bias: the rows of each. Empty: it is one.
  std::vector<int64_t> parts = {};
  double deviation = 0;  // of a mixer_array: of its first numbers, which are normal; 0: it keeps those it was made with
  NormOf norm = NormOf::none;  // of a gain, and of a bias beside one

  // The name with another expert in place of its own: "blocks.0.feed_forward.experts.*.up.weight".
  std::string name_of_expert(const std::string& other) const;

  // The same of a weight with so many rows. Error(internal) where they do not add up to them.
  std::vector<int64_t> parts_of(int64_t rows) const;
};

// A place in the tree of modules.
struct Place {
  std::string name;
  int64_t layer = -1, expert = -1;
  bool shared = false;
  int64_t kind = -1;
  RankPart part = {};

  Place in_expert(int64_t number) const;  // of those that a mixture routes to
  Place in(const std::string& child) const { return {name + "." + child, layer, expert, shared, kind, part}; }
  ParameterInfo info(const char* parameter, Role role) const {
    return {name + "." + parameter, role, layer, expert, false, role, shared, kind, part};
  }
};

// Saving, loading, optimizing, pruning, quantizing and counting are visitors.
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void weight(const ParameterInfo& info, std::shared_ptr<Weight>& weight) = 0;
  virtual void parameter(const ParameterInfo& info, Parameter& parameter) = 0;
  // What is visited until end_experts() belongs to `experts` experts, of which `active` process a token.
  virtual void begin_experts(int64_t /*experts*/, int64_t /*active*/) {}
  virtual void end_experts() {}
};

// The same for those who only read.
class Reader {
 public:
  virtual ~Reader() = default;
  virtual void weight(const ParameterInfo& info, const Weight& weight) = 0;
  virtual void parameter(const ParameterInfo& info, const Parameter& parameter) = 0;
  virtual void begin_experts(int64_t /*experts*/, int64_t /*active*/) {}
  virtual void end_experts() {}
};

}  // namespace hone

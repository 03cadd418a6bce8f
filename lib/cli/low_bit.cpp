#include "cli/low_bit.h"

#include <sstream>

#include "base/error.h"
#include "base/log.h"
#include "cli/option_values.h"
#include "cli/precision.h"
#include "measure/speed.h"

namespace hone::cli {

void LowBitOptions::add(CLI::Option_group* group) {
  group
      ->add_option("--activations", activations,
                   "Of products with weights that are integers. same: as --precision says, then integers of 16 bits, "
                   "or of 8 where the model's file asks for it (quantize --activations). int8: integers of 8 bits, "
                   "with a scale for each row and 32 to 128 columns: faster where many rows are multiplied at once, "
                   "less exact. exact: of 16 bits, whatever the file says")
      ->check(one_of({"same", "int8", "exact"}));
  std::vector<std::string> names = {"same"};
  std::string codes;
  for (const kernels::CacheCodeInfo& info : kernels::cache_codes) {
    names.emplace_back(info.name);
    codes += fmt::format("; {}: {}", info.name, info.what);
  }
  group
      ->add_option("--cache-type", cache_type,
                   fmt::format("Of the keys and values of earlier tokens. same: as --precision says; or codes with a "
                               "scale for each row of a head{}",
                               codes))
      ->check(one_of(names));
}

void LowBitOptions::check(const std::string& precision) const {
  if (activations == "int8" && precision == "f32")
    throw usage_error("--activations {} does not go with --precision f32, which leaves activations as they are",
                      activations);
}

kernels::ActivationRounding LowBitOptions::rounding(const std::string& precision) const {
  const kernels::F32Activations f32 = f32_activations(precision);
  if (activations == "same" && precision != "f32") return {f32};
  return {f32, activations == "int8" ? 8 : 16};
}

kernels::CacheCode LowBitOptions::code() const {
  return kernels::find_cache_code(cache_type).value_or(kernels::CacheCode::none);
}

std::string LowBitOptions::described() const {
  std::string text;
  if (activations != "same") text += ", " + activations + " activations";
  if (code() != kernels::CacheCode::none) text += ", " + cache_type + " cache";
  return text;
}

void LowBitOptions::tell_of_activations(const std::string& forms) const {
  if (activations == "same") {
    if (forms.find(eight_bits_mark) != std::string::npos)
      log_info("activations of 8 bits where the model's file asks for them; --activations exact leaves them out");
    return;
  }
  std::istringstream words(forms);
  for (std::string word; words >> word;)
    if (kernels::is_integer_element(word)) return;
  log_warning("--activations has no effect without weights that are integers");
}

}  // namespace hone::cli

// Where the fields of the records of a choice lie (choice_bindings.h).
#include "cpu/choice_bindings.h"

#include <nanobind/stl/string.h>

#include <cstddef>

#include "common/choice_row.h"

namespace nb = nanobind;

namespace espalier {

#define ESP_FIELD(record, field) layout[#field] = nb::make_tuple(offsetof(record, field), sizeof(record::field));

static nb::dict choice_row_layout() {
    nb::dict layout;
    ESP_FIELD(ChoiceRow, temperature)
    ESP_FIELD(ChoiceRow, floor)
    ESP_FIELD(ChoiceRow, top_p)
    ESP_FIELD(ChoiceRow, seed)
    ESP_FIELD(ChoiceRow, frequency_penalty)
    ESP_FIELD(ChoiceRow, presence_penalty)
    ESP_FIELD(ChoiceRow, repetition_penalty)
    ESP_FIELD(ChoiceRow, rate)
    ESP_FIELD(ChoiceRow, position)
    ESP_FIELD(ChoiceRow, top_k)
    ESP_FIELD(ChoiceRow, order)
    ESP_FIELD(ChoiceRow, n_unread)
    ESP_FIELD(ChoiceRow, has_mask)
    ESP_FIELD(ChoiceRow, wants_logprob)
    ESP_FIELD(ChoiceRow, n_top_logprobs)
    return layout;
}

static nb::dict change_layout() {
    nb::dict layout;
    ESP_FIELD(Change, token_id)
    ESP_FIELD(Change, n_answered)
    ESP_FIELD(Change, is_seen)
    ESP_FIELD(Change, bias)
    return layout;
}

#undef ESP_FIELD

static bool is_choice_row(const std::string& name) {
    if (name == "ChoiceRow") return true;
    if (name == "Change") return false;
    throw nb::value_error(("no record named " + name).c_str());
}

void bind_choice_records(nb::module_& module) {
    module.def("record_layout", [](const std::string& name) { return is_choice_row(name) ? choice_row_layout() : change_layout(); });
    module.def("record_size", [](const std::string& name) { return is_choice_row(name) ? sizeof(ChoiceRow) : sizeof(Change); });
    module.def("choice_steps", [] {
        nb::dict steps;
        steps["temperature"] = int(kTemperatureStep), steps["top_k"] = int(kTopKStep);
        steps["top_p"] = int(kTopPStep), steps["min_p"] = int(kMinPStep);
        return steps;
    });
    module.def("logprob_columns", [] { return kLogprobColumns; });
}

}  // namespace espalier

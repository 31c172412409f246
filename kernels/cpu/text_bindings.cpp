// cpu/text for Python: each call gives the interpreter's lock away while it works on a text.
#include "cpu/text_bindings.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>

#include "cpu/text/spm_merge.h"
#include "cpu/text/token_finder.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace espalier {
namespace {

constexpr size_t kMaxTextBytes = size_t(1) << 30;  // places in a segment are 32 bits wide

TextView view_of(const nb::str& text) {
    PyObject* object = text.ptr();
    return {PyUnicode_DATA(object), int(PyUnicode_KIND(object)), int64_t(PyUnicode_GET_LENGTH(object))};
}

void make_merger(SpmMerger* self, const std::vector<std::string>& texts, const std::vector<int32_t>& ids, const std::vector<double>& scores,
                      const std::vector<bool>& unused, std::vector<int32_t> byte_ids, int32_t unk_id, const std::vector<std::string>& before_space) {
    if (ids.size() != texts.size() || scores.size() != texts.size() || unused.size() != texts.size() || byte_ids.size() != 256)
        throw nb::value_error("texts, ids, scores and unused have one length, byte_ids has 256 entries");
    std::vector<SpmToken> tokens;
    for (size_t i = 0; i < texts.size(); ++i) tokens.push_back({texts[i], ids[i], scores[i], unused[i]});
    new (self) SpmMerger(std::move(tokens), std::move(byte_ids), unk_id, before_space);
}

std::vector<int32_t> encode(const SpmMerger& merger, const nb::str& text) {
    Py_ssize_t n_bytes = 0;
    const char* utf8 = PyUnicode_AsUTF8AndSize(text.ptr(), &n_bytes);
    if (utf8 == nullptr) throw nb::python_error();
    if (size_t(n_bytes) > kMaxTextBytes) throw nb::value_error("a text of more than 1 GiB");
    const nb::gil_scoped_release no_gil;
    return merger.encode({utf8, size_t(n_bytes)});
}

void make_finder(TokenFinder* self, const nb::list& texts, const std::vector<int32_t>& ids) {
    if (texts.size() != ids.size()) throw nb::value_error("texts and ids have one length");
    new (self) TokenFinder();
    for (size_t i = 0; i < ids.size(); ++i) self->add(view_of(nb::cast<nb::str>(texts[i])), ids[i]);
}

nb::list find(const TokenFinder& finder, const nb::str& text, int64_t start, int64_t end, bool overlapping) {
    const TextView view = view_of(text);
    if (start < 0 || start > end || end > view.length) throw nb::value_error("start and end lie inside the text, in this order");
    std::vector<Found> all;
    {
        const nb::gil_scoped_release no_gil;
        all = finder.find(view, start, end, overlapping);
    }
    nb::list found;
    for (const Found& one : all) found.append(nb::make_tuple(one.start, one.start + one.length, one.id));
    return found;
}

}  // namespace

void bind_text(nb::module_& module) {
    nb::class_<SpmMerger>(module, "SpmMerger")
        .def("__init__", &make_merger, "texts"_a, "ids"_a, "scores"_a, "unused"_a, "byte_ids"_a, "unk_id"_a, "before_space"_a)
        .def("encode", &encode, "text"_a);
    nb::class_<TokenFinder>(module, "TokenFinder")
        .def("__init__", &make_finder, "texts"_a, "ids"_a)
        .def("find", &find, "text"_a, "start"_a, "end"_a, "overlapping"_a);
}

}  // namespace espalier

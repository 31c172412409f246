// SentencePiece's BPE on UTF-8: merge the adjacent pair whose joined text scores highest, leftmost first on ties.
//
// Text is cut into segments where no token can reach across (a boundary lies before a space mark whose left neighbour
// precedes a space mark in no token); each is merged by itself with a priority queue, O(n log n). Nothing here touches
// Python, so that the caller can give the interpreter's lock away.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace espalier {

struct SpmToken {
    std::string text;  // UTF-8
    int32_t id;
    double score;
    bool unused;  // a step towards other tokens only
};

class SpmMerger {
public:
    // tokens: those that merging may give, each text once and none empty. byte_ids: 256 entries, -1 where a byte has no
    // token. unk_id: -1 for none. before_space: characters that may precede a space mark inside a token.
    SpmMerger(std::vector<SpmToken> tokens, std::vector<int32_t> byte_ids, int32_t unk_id, const std::vector<std::string>& before_space)
        : tokens_(std::move(tokens)), byte_ids_(std::move(byte_ids)), unk_id_(unk_id),
          has_bytes_(std::any_of(byte_ids_.begin(), byte_ids_.end(), [](int32_t id) { return id >= 0; })),
          before_space_(before_space.begin(), before_space.end()) {
        index_.reserve(tokens_.size());
        for (size_t i = 0; i < tokens_.size(); ++i) index_.emplace(tokens_[i].text, i);
    }

    SpmMerger(const SpmMerger&) = delete;  // index_ points into tokens_
    SpmMerger& operator=(const SpmMerger&) = delete;

    // The token ids of a whole text. text: well-formed UTF-8 whose spaces are space marks.
    std::vector<int32_t> encode(std::string_view text) const {
        std::vector<int32_t> ids;
        Scratch scratch;
        size_t start = 0;
        while (start < text.size()) {
            const size_t end = segment_end(text, start);
            merge(text.substr(start, end - start), scratch, ids);
            start = end;
        }
        return ids;
    }

private:
    static constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
    static constexpr int32_t kNone = -1;

    struct Symbol {
        int32_t n_bytes;  // 0: merged into its left neighbour
        int32_t before, after;  // neighbours' places, kNone at the ends
    };
    struct Pair {
        double score;
        int32_t left, right, n_bytes;  // n_bytes: of both when the pair was found
        bool operator<(const Pair& other) const {  // the top of the queue is the largest
            if (score != other.score) return score < other.score;
            return left != other.left ? left > other.left : right > other.right;
        }
    };
    struct Scratch {
        std::vector<Symbol> symbols;  // by the byte at which each begins
        std::vector<Pair> queue;
        std::unordered_map<std::string_view, int32_t> left_half;  // of each unused token that a merge made: bytes of its left half
        std::vector<std::string_view> pending;
    };

    static size_t character_bytes(std::string_view text, size_t start) {
        const auto first = static_cast<uint8_t>(text[start]);
        const size_t n = first < 0x80 ? 1 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
        return std::min(n, text.size() - start);
    }

    size_t segment_end(std::string_view text, size_t start) const {
        size_t here = start + character_bytes(text, start), before = start;
        while (here < text.size()) {
            if (text.compare(here, kSpaceMark.size(), kSpaceMark) == 0 && before_space_.count(std::string(text.substr(before, here - before))) == 0) return here;
            before = here;
            here += character_bytes(text, here);
        }
        return text.size();
    }

    void merge(std::string_view text, Scratch& scratch, std::vector<int32_t>& ids) const {
        auto& symbols = scratch.symbols;
        auto& queue = scratch.queue;
        symbols.assign(text.size(), Symbol{0, kNone, kNone});
        queue.clear();
        scratch.left_half.clear();
        int32_t before = kNone;
        for (size_t start = 0; start < text.size(); start += symbols[start].n_bytes) {
            const auto n_bytes = int32_t(character_bytes(text, start)), after = int32_t(start) + n_bytes;
            symbols[start] = {n_bytes, before, after < int32_t(text.size()) ? after : kNone};
            if (before != kNone) find_pair(text, symbols, before, int32_t(start), queue);
            before = int32_t(start);
        }
        std::make_heap(queue.begin(), queue.end());
        while (!queue.empty()) {
            std::pop_heap(queue.begin(), queue.end());
            const Pair pair = queue.back();
            queue.pop_back();
            Symbol &left = symbols[pair.left], &right = symbols[pair.right];
            if (left.n_bytes == 0 || right.n_bytes == 0 || left.n_bytes + right.n_bytes != pair.n_bytes) continue;  // merged since
            const std::string_view joined = text.substr(pair.left, pair.n_bytes);
            if (tokens_[index_.find(joined)->second].unused) scratch.left_half[joined] = left.n_bytes;
            left.n_bytes = pair.n_bytes;
            right.n_bytes = 0;
            left.after = right.after;
            if (left.after != kNone) {
                symbols[left.after].before = pair.left;
                push_pair(text, symbols, pair.left, left.after, queue);
            }
            if (left.before != kNone) push_pair(text, symbols, left.before, pair.left, queue);
        }
        for (int32_t place = text.empty() ? kNone : 0; place != kNone; place = symbols[place].after)
            append_ids(text.substr(place, symbols[place].n_bytes), scratch, ids);
    }

    bool find_pair(std::string_view text, const std::vector<Symbol>& symbols, int32_t left, int32_t right, std::vector<Pair>& queue) const {
        const int32_t n_bytes = symbols[left].n_bytes + symbols[right].n_bytes;
        const auto found = index_.find(text.substr(left, n_bytes));
        if (found == index_.end()) return false;
        queue.push_back({tokens_[found->second].score, left, right, n_bytes});
        return true;
    }

    void push_pair(std::string_view text, const std::vector<Symbol>& symbols, int32_t left, int32_t right, std::vector<Pair>& queue) const {
        if (find_pair(text, symbols, left, right, queue)) std::push_heap(queue.begin(), queue.end());
    }

    // An unused token that a merge made is taken apart again; what is no token is its bytes, or unknown.
    void append_ids(std::string_view symbol, Scratch& scratch, std::vector<int32_t>& ids) const {
        scratch.pending.assign(1, symbol);
        while (!scratch.pending.empty()) {
            const std::string_view text = scratch.pending.back();
            scratch.pending.pop_back();
            if (const auto half = scratch.left_half.find(text); half != scratch.left_half.end()) {
                scratch.pending.push_back(text.substr(half->second));
                scratch.pending.push_back(text.substr(0, half->second));
            } else if (const auto found = index_.find(text); found != index_.end()) {
                ids.push_back(tokens_[found->second].id);
            } else {
                append_bytes(text, ids);
            }
        }
    }

    void append_bytes(std::string_view text, std::vector<int32_t>& ids) const {
        if (!has_bytes_ && unk_id_ >= 0) {
            ids.push_back(unk_id_);
            return;
        }
        for (const char byte : text) {
            const int32_t id = byte_ids_[static_cast<uint8_t>(byte)];
            if (id >= 0 || unk_id_ >= 0) ids.push_back(id >= 0 ? id : unk_id_);
        }
    }

    const std::vector<SpmToken> tokens_;
    const std::vector<int32_t> byte_ids_;
    const int32_t unk_id_;
    const bool has_bytes_;
    const std::unordered_set<std::string> before_space_;
    std::unordered_map<std::string_view, size_t> index_;  // views of tokens_
};

}  // namespace espalier

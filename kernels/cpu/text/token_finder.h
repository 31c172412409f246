// Finds token texts in a text: at each place the longest that begins there. A trie over code points; the text is read in
// the form in which Python holds it (1, 2 or 4 bytes a character), so that nothing is copied and places are Python's.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

namespace espalier {

struct TextView {
    const void* characters;
    int bytes_per_character;  // 1, 2 or 4
    int64_t length;

    uint32_t at(int64_t place) const {
        switch (bytes_per_character) {
            case 1: return static_cast<const uint8_t*>(characters)[place];
            case 2: return static_cast<const uint16_t*>(characters)[place];
            default: return static_cast<const uint32_t*>(characters)[place];
        }
    }
};

struct Found {
    int64_t start, length;
    int32_t id;
};

class TokenFinder {
public:
    TokenFinder() : nodes_(1), begins_(128, false) {}

    // Of equal texts the last counts. An empty one is never found.
    void add(const TextView& token, int32_t id) {
        if (token.length == 0) return;
        size_t node = 0;
        for (int64_t i = 0; i < token.length; ++i) {
            const auto [next, is_new] = nodes_[node].next.try_emplace(token.at(i), nodes_.size());
            node = next->second;
            if (is_new) nodes_.emplace_back();
        }
        nodes_[node].id = id;
        if (token.at(0) < begins_.size()) begins_[token.at(0)] = true;
    }

    // The tokens that begin in start .. end - 1, in order. overlapping: also those that begin within one found before.
    std::vector<Found> find(const TextView& text, int64_t start, int64_t end, bool overlapping) const {
        std::vector<Found> all;
        for (int64_t place = start; place < end; ++place) {
            const uint32_t first = text.at(place);
            if (first < begins_.size() && !begins_[first]) continue;
            const Found found = longest_at(text, place);
            if (found.length == 0) continue;
            all.push_back(found);
            if (!overlapping) place += found.length - 1;
        }
        return all;
    }

private:
    struct Node {
        std::unordered_map<uint32_t, size_t> next;
        int32_t id = -1;
    };

    Found longest_at(const TextView& text, int64_t start) const {
        Found longest{start, 0, -1};
        size_t node = 0;
        for (int64_t place = start; place < text.length; ++place) {
            const auto next = nodes_[node].next.find(text.at(place));
            if (next == nodes_[node].next.end()) break;
            node = next->second;
            if (nodes_[node].id >= 0) longest = {start, place + 1 - start, nodes_[node].id};
        }
        return longest;
    }

    std::vector<Node> nodes_;
    std::vector<bool> begins_;  // whether some token begins with an ASCII character
};

}  // namespace espalier

// Windows of a stream of documents as ids, written straight from the store's memory maps: what `windows.py`, `views.py`
// and `render.py` do together in numpy, where calls and copies cost four times what the memory does. Tests hold the two
// together.
//
// A document is walked position by position in numbers only; what falls outside the window is never looked at, and nothing is
// written outside it, whatever the index says. Offsets are compared with the sizes of what they point into.
#include <algorithm>
#include <cstdint>
#include <cstring>

static const int32_t ABSENT = -1;

// ---- what native.py lays out ----

struct Shard {
  const uint16_t* codes;  // frame by frame
  const int64_t* code_offsets;
  const int32_t* text_ids;
  const int64_t* text_offsets;
  int64_t num_codes, num_text_ids;
};

struct Stream {
  const Shard* shards;
  const int64_t* shard_ends;  // utterances up to the end of each
  int64_t num_shards;
  const int64_t* begin_M;      // where each utterance that the view uses begins, counted in tokens
  const int32_t* first_G;      // the first of each document, and their number
  const uint8_t* plain_G;      // text without markers
  const int32_t* utterance_M;  // the number in the store; null where all are used
  int64_t num_groups;
  const int32_t* order_U;  // documents; those from num_groups on are text-first ones
  int64_t num_documents;
  const int64_t* begins;  // in the stream, of every `stride`-th document
  int64_t num_begins, stride;
  const int32_t* bases;   // of each codebook's ids, over and over for `size` tokens and a frame
  const int64_t* delays;  // of each codebook, in positions
  int64_t size;           // positions in a window
  int64_t width;          // ids of a position; those that have none hold ABSENT
  int64_t beyond;         // positions of a span of speech after its audio_end
  int32_t frame_positions;  // 1 where a frame is one position, else 0: each code has one of its own
  int32_t stored, used;  // codebooks
  int32_t has_text, text_first;
  int32_t more_bos;  // of a document, beyond the first
  int32_t bos, eos, audio_start, audio_end, text_start, text_end;
};

// ---- a row, and a pen that writes only what falls into it ----

struct Pen {
  const Stream& stream;
  int32_t* row;
  int64_t at;

  void mark(int32_t id) {
    if (at >= 0 && at < stream.size) row[at * stream.width] = id;
    ++at;
  }

  // Tokens `from` … `to` of the next `count` are in sight.
  struct Sight {
    int64_t from, to;
  };
  Sight sight(int64_t count) const {
    const int64_t from = std::clamp<int64_t>(-at, 0, count);
    return {from, std::clamp<int64_t>(stream.size - at, from, count)};
  }

  void text(const int32_t* ids, int64_t count) {
    const Sight seen = sight(count);
    if (stream.width > 1) {
      for (int64_t i = seen.from; i < seen.to; ++i) row[(at + i) * stream.width] = ids[i];
    } else if (seen.to > seen.from) {
      memcpy(row + at + seen.from, ids + seen.from, (seen.to - seen.from) * sizeof *ids);
    }
    at += count;
  }

  // Frames side by side, codebook k `delays[k]` positions late: also where it reaches beyond the frames.
  void frames(const uint16_t* codes, int64_t count) {
    for (int64_t k = 0; k < stream.used; ++k) {
      const int64_t begin = at + stream.delays[k];
      const int64_t to = std::min(count, stream.size - begin);
      for (int64_t f = std::max<int64_t>(0, -begin); f < to; ++f)
        row[(begin + f) * stream.width + k] = codes[f * stream.stored + k] + stream.bases[k];
    }
    at += count;
  }

  void speech(const uint16_t* codes, int64_t frames) {
    const int64_t used = stream.used, stored = stream.stored;
    const Sight seen = sight(frames * used);
    int32_t* __restrict out = row + at + seen.from;
    const int32_t* __restrict bases = stream.bases + seen.from % used;
    const int64_t count = seen.to - seen.from;
    if (used == stored) {
      for (int64_t i = 0; i < count; ++i) out[i] = codes[seen.from + i] + bases[i];
    } else {
      const uint16_t* frame = codes + seen.from / used * stored;
      int64_t k = seen.from % used;
      for (int64_t i = 0; i < count; ++i) {
        out[i] = frame[k] + bases[i];
        if (++k == used) k = 0, frame += stored;
      }
    }
    at += frames * used;
  }
};

static bool inside(const int64_t* offsets, int64_t row, int64_t size) {
  return 0 <= offsets[row] && offsets[row] <= offsets[row + 1] && offsets[row + 1] <= size;
}

// The visible part of one utterance; false where the shard's offsets point outside it.
static bool utterance(Pen& pen, int64_t number, bool plain, bool text_first) {
  const Stream& s = pen.stream;
  const int64_t place = std::upper_bound(s.shard_ends, s.shard_ends + s.num_shards, number) - s.shard_ends;
  if (place == s.num_shards) return false;
  const Shard& shard = s.shards[place];
  const int64_t row = place ? number - s.shard_ends[place - 1] : number;
  if (!inside(shard.code_offsets, row, shard.num_codes) || !inside(shard.text_offsets, row, shard.num_text_ids))
    return false;
  const uint16_t* codes = shard.codes + shard.code_offsets[row];
  const int32_t* ids = shard.text_ids + shard.text_offsets[row];
  const int64_t frames = (shard.code_offsets[row + 1] - shard.code_offsets[row]) / s.stored;
  const int64_t num_ids = s.has_text ? shard.text_offsets[row + 1] - shard.text_offsets[row] : 0;
  auto text = [&] {
    if (num_ids) pen.mark(s.text_start), pen.text(ids, num_ids), pen.mark(s.text_end);
  };
  if (plain) return pen.text(ids, num_ids), true;
  if (text_first) text();
  if (frames) {
    pen.mark(s.audio_start);
    s.frame_positions ? pen.frames(codes, frames) : pen.speech(codes, frames);
    pen.mark(s.audio_end);
    pen.at += s.beyond;
  }
  if (!text_first) text();
  return true;
}

// The visible part of one document of `length` tokens; false where the store is not what the index was made of.
static bool document(Pen& pen, int64_t number, int64_t length) {
  const Stream& s = pen.stream;
  const int64_t group = number % s.num_groups, end = pen.at + length;
  const bool plain = s.plain_G[group], text_first = s.text_first || number >= s.num_groups;
  const int64_t first = s.first_G[group], last = s.first_G[group + 1];
  for (int32_t i = 0; i <= s.more_bos; ++i) pen.mark(s.bos);
  // Where the document begins before the window, on to the utterance that reaches into it.
  const int64_t *begin = s.begin_M + first, *stop = s.begin_M + last, body = pen.at;
  int64_t m = first;
  if (body < 0 && !plain) {
    m = std::upper_bound(begin, stop, *begin - body) - s.begin_M - 1;
    pen.at = body + s.begin_M[m] - *begin;
  }
  for (; m < last && pen.at < s.size; ++m)
    if (!utterance(pen, s.utterance_M ? s.utterance_M[m] : m, plain, text_first)) return false;
  if (pen.at < s.size) pen.mark(s.eos);
  if (pen.at != end && pen.at < s.size) return false;
  pen.at = end;
  return true;
}

// ---- what native.py calls ----

// Window `windows[i]` into row `rows[i]` of `ids`, and the lengths of the document pieces in it after those of the
// windows before: `counts[i]` of them. The number of windows made: fewer than asked for where the store is not what the
// index was made of, or `capacity` lengths are too few.
extern "C" int64_t sodakit_windows(const Stream* stream, const int64_t* windows, const int64_t* rows, int64_t count,
                                   int32_t* ids, int64_t* lengths, int64_t capacity, int64_t* counts) {
  const Stream& s = *stream;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t start = windows[i] * s.size;
    const int64_t run = std::upper_bound(s.begins, s.begins + s.num_begins, start) - s.begins - 1;
    Pen pen{s, ids + rows[i] * s.size * s.width, s.begins[run] - start};
    if (s.width > 1) std::fill_n(pen.row, s.size * s.width, ABSENT);
    counts[i] = 0;
    for (int64_t u = run * s.stride; pen.at < s.size && u < s.num_documents; ++u) {
      const int64_t number = s.order_U[u], group = number % s.num_groups, begin = pen.at;
      const int64_t body = s.begin_M[s.first_G[group + 1]] - s.begin_M[s.first_G[group]];
      // A plain text was counted with its two markers, which it has not, and without BOS and EOS.
      const int64_t end = begin + body + (s.plain_G[group] ? 0 : 2) + s.more_bos;
      if (end <= 0) {
        pen.at = end;
        continue;
      }
      if (!capacity-- || !document(pen, number, end - begin)) return i;
      *lengths++ = std::min(end, s.size) - std::max<int64_t>(begin, 0);
      ++counts[i];
    }
    if (pen.at < s.size) return i;
  }
  return count;
}

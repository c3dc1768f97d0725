// Windows of a stream of documents as ids, written straight from the store's memory maps: what `windows.py`, `views.py`
// and `render.py` do together in numpy, where calls and copies cost four times what the memory does. Tests hold the two
// together.
//
// A document is walked position by position in numbers only; what falls outside the window is never looked at, and nothing is
// written outside it, whatever the index says. Offsets are compared with the sizes of what they point into.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

static const int32_t ABSENT = -1;

// ---- what native.py lays out ----

struct Shard {
  const uint16_t* codes;  // frame by frame
  const int64_t* code_offsets;
  const int32_t* text_ids;
  const int64_t* text_offsets;
  int64_t num_codes, num_text_ids;
  const int64_t* word_offsets;  // of words and their times; null where the shard knows none
  const int32_t* word_ids;
  const float *word_starts, *word_ends;
  int64_t num_words;
};

// How words are drawn as text or speech (`interleave.py`). An entry of the index is a block: a few utterances of a document,
// with which the drawing begins anew.
struct Draw {
  uint64_t key;             // of the epoch
  uint64_t share;           // a draw below it begins with speech
  const uint64_t* tables[4];  // of lengths of text, of speech; of what is left of a first span of text, of speech
  int64_t sizes[4];
  double half_rate;           // frames in half a second
  int64_t block;              // utterances in one
  const int64_t* entry_begins;  // in the stream, of the blocks of the index; then its length
  const int32_t* entry_orders;  // the place of its document in the order
  const int32_t* entry_blocks;  // its number in the document
  int64_t num_entries;
  int32_t drawn_order;  // 1 where utterances without times are written in either order
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
  const Draw* draw;  // null where every utterance is written whole
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

struct Utterance {
  const Shard* shard;
  const uint16_t* codes;
  const int32_t* ids;
  int64_t row, frames, num_ids;
};

// Where an utterance lies; false where the shard's offsets point outside it.
static bool find(const Stream& s, int64_t number, Utterance& found) {
  const int64_t place = std::upper_bound(s.shard_ends, s.shard_ends + s.num_shards, number) - s.shard_ends;
  if (place == s.num_shards) return false;
  const Shard& shard = s.shards[place];
  const int64_t row = place ? number - s.shard_ends[place - 1] : number;
  if (!inside(shard.code_offsets, row, shard.num_codes) || !inside(shard.text_offsets, row, shard.num_text_ids))
    return false;
  found.shard = &shard;
  found.row = row;
  found.codes = shard.codes + shard.code_offsets[row];
  found.ids = shard.text_ids + shard.text_offsets[row];
  found.frames = (shard.code_offsets[row + 1] - shard.code_offsets[row]) / s.stored;
  found.num_ids = s.has_text ? shard.text_offsets[row + 1] - shard.text_offsets[row] : 0;
  return true;
}

static void write_text(Pen& pen, const int32_t* ids, int64_t count) {
  pen.mark(pen.stream.text_start), pen.text(ids, count), pen.mark(pen.stream.text_end);
}

static void write_speech(Pen& pen, const uint16_t* codes, int64_t frames) {
  const Stream& s = pen.stream;
  pen.mark(s.audio_start);
  s.frame_positions ? pen.frames(codes, frames) : pen.speech(codes, frames);
  pen.mark(s.audio_end);
  pen.at += s.beyond;
}

// The visible part of one utterance; false where the shard's offsets point outside it.
static bool utterance(Pen& pen, int64_t number, bool plain, bool text_first) {
  Utterance u;
  if (!find(pen.stream, number, u)) return false;
  if (plain) return pen.text(u.ids, u.num_ids), true;
  if (text_first && u.num_ids) write_text(pen, u.ids, u.num_ids);
  if (u.frames) write_speech(pen, u.codes, u.frames);
  if (!text_first && u.num_ids) write_text(pen, u.ids, u.num_ids);
  return true;
}

// ---- words drawn as text or speech ----

static uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

// Spans of text and speech in turn, from somewhere inside the first.
struct Spans {
  const Draw& draw;
  uint64_t state;
  bool is_speech;
  int64_t left;  // words of this span

  static const uint64_t STEP = 0x9E3779B97F4A7C15ull;

  Spans(const Draw& d, int64_t document, int64_t block) : draw(d) {
    state = mix(mix(d.key ^ (uint64_t)(document + 1) * STEP) ^ (uint64_t)(block + 1) * STEP);
    is_speech = next() < draw.share;
    left = length(2 + is_speech);
  }
  uint64_t next() { return mix(state += STEP); }
  int64_t length(int64_t table) {
    const uint64_t *first = draw.tables[table], drawn = next();
    return std::upper_bound(first, first + draw.sizes[table] - 1, drawn) - first + 1;
  }
  void advance(int64_t words) {
    while (words >= left) {
      words -= left;
      is_speech = !is_speech;
      left = length(is_speech);
    }
    left -= words;
  }
};

// Calls text(first, end) and speech(first, end) for the spans of an utterance whose words have times. A span ends at the first
// word from where the draw says on that begins with an id and a frame of its own: in the middle of the pause before it.
template <class Text, class Speech>
static void spans_of(const Utterance& u, Spans& spans, Text text, Speech speech) {
  const Shard& shard = *u.shard;
  const int64_t begin = shard.word_offsets[u.row], count = shard.word_offsets[u.row + 1] - begin;
  const int32_t* ids = shard.word_ids + begin;
  const float *starts = shard.word_starts + begin, *ends = shard.word_ends + begin;
  int64_t from_id = 0, from_frame = 0, word = 0, n;
  bool is_speech = spans.is_speech;
  while ((n = word + spans.left) < count) {
    double cut = 0;
    for (; n < count; ++n) {
      if (ids[n] <= from_id || ids[n] >= u.num_ids) continue;
      cut = std::nearbyint(((double)ends[n - 1] + (double)starts[n]) * spans.draw.half_rate);
      if (cut > from_frame && cut < u.frames) break;  // false where a time is not known
    }
    if (n == count) break;
    spans.advance(n - word);
    word = n;
    if (spans.is_speech == is_speech) continue;
    is_speech ? speech(from_frame, (int64_t)cut) : text(from_id, ids[n]);
    is_speech = spans.is_speech;
    from_id = ids[n], from_frame = (int64_t)cut;
  }
  is_speech ? speech(from_frame, u.frames) : text(from_id, u.num_ids);
  spans.advance(count - word);
}

static bool is_timed(const Utterance& u) {
  const Shard& shard = *u.shard;
  if (!shard.word_offsets || !u.frames || !u.num_ids) return false;
  return inside(shard.word_offsets, u.row, shard.num_words) &&
         shard.word_offsets[u.row] < shard.word_offsets[u.row + 1];
}

// Calls text and speech for every span of a block of utterances, with what they are of, until `done`; false where the store
// is damaged.
template <class Text, class Speech, class Done>
static bool block_of(const Stream& s, int64_t group, int64_t block, Text text, Speech speech, Done done) {
  const Draw& draw = *s.draw;
  const int64_t first = s.first_G[group] + block * draw.block;
  const int64_t last = std::min<int64_t>(s.first_G[group + 1], first + draw.block);
  Spans spans(draw, group, block);
  for (int64_t m = first; m < last && !done(); ++m) {
    Utterance u;
    if (!find(s, s.utterance_M ? s.utterance_M[m] : m, u)) return false;
    if (is_timed(u)) {
      spans_of(u, spans, [&](int64_t a, int64_t b) { text(u.ids + a, b - a); },
               [&](int64_t a, int64_t b) { speech(u.codes + a * s.stored, b - a); });
      continue;
    }
    const bool coin = mix(spans.draw.key ^ mix((uint64_t)(m + 1) * Spans::STEP)) & 1;
    const bool text_first = draw.drawn_order ? coin : s.text_first;
    if (text_first && u.num_ids) text(u.ids, u.num_ids);
    if (u.frames) speech(u.codes, u.frames);
    if (!text_first && u.num_ids) text(u.ids, u.num_ids);
  }
  return true;
}

static int64_t speech_positions(const Stream& s, int64_t frames) {
  return frames * (s.frame_positions ? 1 : s.used) + 2 + s.beyond;
}

// Positions of a block, the document's BOS and EOS not among them; -1 where the store is damaged.
static int64_t block_positions(const Stream& s, int64_t group, int64_t block, int64_t* totals) {
  int64_t positions = 0;
  const bool whole = block_of(
      s, group, block,
      [&](const int32_t*, int64_t count) { positions += count + 2, totals[0] += count, ++totals[2]; },
      [&](const uint16_t*, int64_t frames) {
        positions += speech_positions(s, frames), totals[1] += frames, ++totals[2];
      },
      [] { return false; });
  return whole ? positions : -1;
}

static int64_t blocks_of(const Stream& s, int64_t group) {
  return (s.first_G[group + 1] - s.first_G[group] + s.draw->block - 1) / s.draw->block;
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

// The positions of every block of the documents `order[0]` … in this epoch, one after the other; totals are their text ids,
// frames and spans. The first block of a document counts its BOS and the last its EOS. The number of blocks; -1 where the
// store is not what the index was made of.
extern "C" int64_t sodakit_draw_lengths(const Stream* stream, int64_t* positions, int64_t* totals) {
  const Stream& s = *stream;
  int64_t made = 0;
  for (int64_t u = 0; u < s.num_documents; ++u) {
    const int64_t group = s.order_U[u], blocks = blocks_of(s, group);
    if (s.plain_G[group]) {
      Utterance only;
      const int64_t m = s.first_G[group];
      if (!find(s, s.utterance_M ? s.utterance_M[m] : m, only)) return -1;
      totals[0] += only.num_ids;
      positions[made++] = only.num_ids + 2 + s.more_bos;
      continue;
    }
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t length = block_positions(s, group, block, totals);
      if (length < 0) return -1;
      positions[made++] = length + (block ? 0 : 1 + s.more_bos) + (block == blocks - 1);
    }
  }
  return made;
}

// What a window is made of, in order: known before it is written, so that its codes and ids are on their way from memory
// while the window before is written. Spans are short and lie anywhere: waiting for each would take most of the time.
struct Part {
  const void* first;  // codes or ids; null for a mark
  int64_t count;      // frames or ids; the mark
  bool is_speech, is_bare;  // bare text has no markers
};

struct Plan {
  std::vector<Part> parts;
  int64_t begin, at;  // where the first part and the next one begin, counted from the window's first position

  void add(const void* first, int64_t count, int64_t positions, bool is_speech, bool is_bare, int64_t bytes) {
    // What ends before the window is not written, nor fetched.
    if (at + positions <= 0) begin = at + positions, parts.clear();
    else {
      for (int64_t n = 0; n < std::min<int64_t>(bytes, 2048); n += 64) __builtin_prefetch((const char*)first + n);
      parts.push_back({first, count, is_speech, is_bare});
    }
    at += positions;
  }
};

static bool plan_window(const Stream& s, int64_t window, Plan& plan, int64_t*& lengths, int64_t& capacity, int64_t& pieces) {
  const Draw& draw = *s.draw;
  const int64_t start = window * s.size % draw.entry_begins[draw.num_entries];
  const int64_t entry =
      std::upper_bound(draw.entry_begins, draw.entry_begins + draw.num_entries, start) - draw.entry_begins - 1;
  plan.parts.clear();
  plan.begin = plan.at = draw.entry_begins[entry] - start;
  auto mark = [&](int32_t id) { plan.add(nullptr, id, 1, false, false, 0); };
  auto text = [&](const int32_t* t, int64_t n) { plan.add(t, n, n + 2, false, false, n * sizeof *t); };
  auto speech = [&](const uint16_t* c, int64_t n) {
    plan.add(c, n, speech_positions(s, n), true, false, n * s.stored * sizeof *c);
  };
  pieces = 0;
  int64_t piece = std::max<int64_t>(plan.at, 0);  // where the piece of a document in sight begins
  int64_t u = draw.entry_orders[entry], block = draw.entry_blocks[entry];
  while (plan.at < s.size) {
    const int64_t group = s.order_U[u];
    const bool last = block + 1 >= blocks_of(s, group);
    if (!block)
      for (int32_t b = 0; b <= s.more_bos; ++b) mark(s.bos);
    if (s.plain_G[group]) {
      Utterance only;
      if (!find(s, s.utterance_M ? s.utterance_M[s.first_G[group]] : s.first_G[group], only)) return false;
      plan.add(only.ids, only.num_ids, only.num_ids, false, true, only.num_ids * sizeof *only.ids);
    } else if (!block_of(s, group, block, text, speech, [&] { return plan.at >= s.size; })) {
      return false;
    }
    if (last) mark(s.eos);
    ++block;
    if (!last && plan.at < s.size) continue;
    const int64_t end = std::min(plan.at, s.size);
    if (end > 0) {
      if (!capacity--) return false;
      *lengths++ = end - piece;
      ++pieces;
      piece = end;
    }
    block = 0;
    u = u + 1 == s.num_documents ? 0 : u + 1;
  }
  return true;
}

static void write_window(const Stream& s, const Plan& plan, int32_t* row) {
  Pen pen{s, row, plan.begin};
  if (s.width > 1) std::fill_n(row, s.size * s.width, ABSENT);
  for (const Part& part : plan.parts) {
    if (!part.first)
      pen.mark((int32_t)part.count);
    else if (part.is_speech)
      write_speech(pen, (const uint16_t*)part.first, part.count);
    else if (part.is_bare)
      pen.text((const int32_t*)part.first, part.count);
    else
      write_text(pen, (const int32_t*)part.first, part.count);
  }
}

// As `sodakit_windows`, of documents whose words are drawn; the stream begins again where it ends.
extern "C" int64_t sodakit_drawn_windows(const Stream* stream, const int64_t* windows, const int64_t* rows, int64_t count,
                                         int32_t* ids, int64_t* lengths, int64_t capacity, int64_t* counts) {
  const Stream& s = *stream;
  Plan plans[2];
  if (count && !plan_window(s, windows[0], plans[0], lengths, capacity, counts[0])) return 0;
  for (int64_t i = 0; i < count; ++i) {
    if (i + 1 < count && !plan_window(s, windows[i + 1], plans[(i + 1) % 2], lengths, capacity, counts[i + 1])) return i + 1;
    write_window(s, plans[i % 2], ids + rows[i] * s.size * s.width);
  }
  return count;
}

// Blocks of numbers as ggml stores them, by hand.
#include "exchange/block_types.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "exchange/numbers.h"

using namespace hone;

TEST_CASE("blocks: codes and scales by hand") {
  std::vector<float> values(32), back(32);
  for (int i = 0; i < 32; ++i) values[static_cast<size_t>(i)] = static_cast<float>(i - 16);
  const BlockType &q8 = block_type_named("q8_0"), &q4 = block_type_named("q4_0");
  std::vector<std::byte> bytes(34);
  encode_blocks(q8, values, bytes.data());
  CHECK(static_cast<int>(static_cast<int8_t>(bytes[2])) == -127);    // -16 is the largest: 127 steps
  CHECK(static_cast<int>(static_cast<int8_t>(bytes[2 + 17])) == 8);  // 1 / (16 / 127) = 7.94
  decode_blocks(q8, bytes.data(), back);
  for (size_t i = 0; i < 32; ++i) CHECK(std::abs(back[i] - values[i]) < 16.0f / 127 / 2 + 0.01f);
  encode_blocks(q4, values, bytes.data());                  // d = 2; the code of x is x / 2 + 8.5, cut
  CHECK(static_cast<int>(bytes[2]) == (0 | 8 << 4));        // -16 and 0
  CHECK(static_cast<int>(bytes[2 + 15]) == (8 | 15 << 4));  // -1 and 15, which is cut to 15
  decode_blocks(q4, bytes.data(), back);
  CHECK(back[0] == -16.0f);
  CHECK(back[31] == 14.0f);
  std::fill(values.begin(), values.end(), 0.0f);
  for (const BlockType* type : {&q8, &q4}) {
    encode_blocks(*type, values, bytes.data());
    decode_blocks(*type, bytes.data(), back);
    CHECK(back == values);
  }
}

// Each against a straightforward reading of ggml's description of the blocks.
TEST_CASE("K-quants: codes, scales and smallest values by hand") {
  std::vector<float> out(256);
  std::vector<std::byte> b(210, std::byte{0});
  const uint16_t one = to_half(1.0f), half = to_half(0.5f);
  std::memcpy(b.data(), &one, 2);
  std::memcpy(b.data() + 2, &half, 2);
  b[4] = std::byte{0b01'000011};  // group 0: scale 3; the upper bits of group 4's scale: 1
  b[8] = std::byte{0b10'000101};  // group 0: least 5; the upper bits of group 4's least: 2
  b[12] = std::byte{0x24};        // group 4: scale 1 << 4 | 4 = 20, least 2 << 4 | 2 = 34
  b[16] = std::byte{0xa7};        // the first codes of groups 0 and 1: 7 and 10
  b[16 + 64] = std::byte{0x0f};   // of groups 4 and 5: 15 and 0
  decode_blocks(block_type_named("q4_k"), b.data(), out);
  CHECK(out[0] == 3 * 7 - 0.5f * 5);
  CHECK(out[1] == -0.5f * 5);
  CHECK(out[32] == 0);  // group 1 has scale 0 and least 0
  CHECK(out[128] == 20 * 15 - 0.5f * 34);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data() + 208, &half, 2);
  b[0] = std::byte{0x5c};                                        // first low codes of quarters 0 and 2: 12 and 5
  b[128] = std::byte{0b00'11'00'01};                             // high bits of quarters 0, 1, 2, 3: 1, 0, 3, 0
  b[192] = std::byte{2};                                         // scale of the first 16 numbers
  b[192 + 4] = static_cast<std::byte>(static_cast<int8_t>(-3));  // of quarter 2
  decode_blocks(block_type_named("q6_k"), b.data(), out);
  CHECK(out[0] == 0.5f * 2 * (16 + 12 - 32));
  CHECK(out[64] == 0.5f * -3 * (48 + 5 - 32));
  CHECK(out[1] == 0.5f * 2 * -32);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data() + 80, &half, 2);
  std::memcpy(b.data() + 82, &one, 2);
  b[0] = std::byte{0x53};                // the first 16 numbers: scale 3, least 5
  b[11] = std::byte{0x2f};               // numbers 176 to 191: scale 15, least 2
  b[16] = std::byte{0b00'00'00'10};      // of number 0: 2; of 32, 64 and 96: 0
  b[16 + 32 + 31] = std::byte{0b11'00};  // of number 128 + 32 + 31: 3
  decode_blocks(block_type_named("q2_k"), b.data(), out);
  CHECK(out[0] == 0.5f * 3 * 2 - 5);
  CHECK(out[1] == -5);
  CHECK(out[32] == 0);
  CHECK(out[191] == 0.5f * 15 * 3 - 2);
  CHECK(out[190] == -2);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data() + 108, &half, 2);
  b[0] = std::byte{0b0010'0001};      // high bits of numbers 0 and 160
  b[32] = std::byte{0b11};            // low bits of number 0: 3
  b[32 + 32] = std::byte{0b01'00};    // of number 128 + 32: 1
  b[96] = std::byte{0x09};            // scale of group 0: 9,
  b[96 + 8] = std::byte{0b11};        // and 3 << 4
  b[96 + 2] = std::byte{0x70};        // of group 10: 7,
  b[96 + 10] = std::byte{0b01'0000};  // and 1 << 4
  decode_blocks(block_type_named("q3_k"), b.data(), out);
  CHECK(out[0] == 0.5f * (57 - 32) * (7 - 4));
  CHECK(out[1] == 0.5f * (57 - 32) * -4);
  CHECK(out[160] == 0.5f * (23 - 32) * (5 - 4));
  CHECK(out[161] == 0.5f * (23 - 32) * -4);
  CHECK(out[16] == 0.5f * -32 * -4);
}

TEST_CASE("five bits: codes and smallest values by hand") {
  std::vector<float> out(32);
  std::vector<std::byte> b(24, std::byte{0});
  const uint16_t two = to_half(2.0f), half = to_half(0.5f);
  std::memcpy(b.data(), &two, 2);
  b[2] = std::byte{1};          // the fifth bit of number 0,
  b[5] = std::byte{0x80};       // and of 31
  b[6] = std::byte{0x43};       // of number 0: 3; of 16: 4
  b[6 + 15] = std::byte{0xf0};  // of number 31: 15
  decode_blocks(block_type_named("q5_0"), b.data(), out);
  CHECK(out[0] == 2 * (19 - 16));
  CHECK(out[16] == 2 * (4 - 16));
  CHECK(out[31] == 2 * (31 - 16));
  CHECK(out[15] == 2 * -16);
  std::fill(b.begin(), b.end(), std::byte{0});
  std::memcpy(b.data(), &two, 2);
  std::memcpy(b.data() + 2, &half, 2);
  b[4 + 1] = std::byte{0b10};  // the fifth bit of number 9
  b[8 + 9] = std::byte{0x21};  // of number 9: 1; of 25: 2
  decode_blocks(block_type_named("q5_1"), b.data(), out);
  CHECK(out[9] == 2 * 17 + 0.5f);
  CHECK(out[25] == 2 * 2 + 0.5f);
  CHECK(out[0] == 0.5f);
}

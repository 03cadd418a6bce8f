#include "dataset/file_kind.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/error.h"

namespace hone {
namespace {

using namespace std::string_view_literals;

constexpr std::string_view of_models = "name text here, and a model where the tool takes models";
constexpr std::string_view of_archives = "unpack it and give the text files that are in it";
constexpr std::string_view of_compressed =
    "decompress it first; of compressed files, gzip and zstd are read as they are";
constexpr std::string_view of_tables = "write its column of text as JSON lines first";
constexpr std::string_view of_documents = "extract its text to a file first";
constexpr std::string_view of_others = "give a file of text";

// Little-endian, 0 beyond the end.
uint64_t number_at(std::string_view bytes, size_t at, size_t width) {
  uint64_t value = 0;
  for (size_t i = 0; i < width && at + i < bytes.size(); ++i)
    value |= uint64_t{static_cast<unsigned char>(bytes[at + i])} << (8 * i);
  return value;
}

bool has(std::string_view bytes, size_t at, std::string_view part) {
  return bytes.size() >= at && bytes.substr(at).starts_with(part);
}

// HDF5 may have a block of the user's own before it, of 512 bytes times a power of two.
bool is_hdf5(std::string_view b) {
  constexpr auto signature = "\x89HDF\r\n\x1a\n"sv;
  if (b.starts_with(signature)) return true;
  for (const size_t at : {512, 1024, 2048})
    if (has(b, at, signature)) return true;
  return false;
}

// RFC 1952: deflate, and no flag that is not defined.
bool is_gzip(std::string_view b) {
  return b.size() >= 4 && b.starts_with("\x1f\x8b\x08"sv) && (static_cast<unsigned char>(b[3]) & 0xe0) == 0;
}

// RFC 8878: a frame, or one to be skipped, as pzstd writes first.
bool is_zstd(std::string_view b) {
  return b.starts_with("\x28\xb5\x2f\xfd"sv) || (b.size() >= 4 && (number_at(b, 0, 4) & 0xfffffff0u) == 0x184d2a50u);
}

// The signature alone may begin a text: a block's follows it, or the end of the stream.
bool is_bzip2(std::string_view b) {
  return b.size() >= 10 && b.starts_with("BZh"sv) && b[3] >= '1' && b[3] <= '9' &&
         (has(b, 4, "1AY&SY"sv) || has(b, 4, "\x17\x72\x45\x38\x50\x90"sv));
}

// Eight bytes of length, then a JSON object of that length.
bool is_safetensors(std::string_view b) {
  const uint64_t length = number_at(b, 0, 8);
  return length >= 2 && length <= 100'000'000 && (has(b, 8, "{\""sv) || has(b, 8, "{}"sv));
}

bool is_gguf(std::string_view b) {
  return b.size() >= 8 && b.starts_with("GGUF"sv) && (has(b, 5, "\0\0\0"sv) || has(b, 4, "\0\0\0"sv));
}

// By the place of its own header, which a text that begins with MZ does not have.
bool is_windows_program(std::string_view b) {
  return b.size() >= 64 && b.starts_with("MZ"sv) && has(b, number_at(b, 60, 4), "PE\0\0"sv);
}

bool is_mach_o(std::string_view b) {
  for (const auto s : {"\xcf\xfa\xed\xfe"sv, "\xce\xfa\xed\xfe"sv, "\xfe\xed\xfa\xcf"sv, "\xfe\xed\xfa\xce"sv})
    if (b.starts_with(s)) return true;
  return false;
}

bool is_pickle(std::string_view b) {
  for (const auto s : {"\x80\x02\x8a\x0a"sv, "\x80\x04\x95"sv, "\x80\x05\x95"sv})
    if (b.starts_with(s)) return true;
  return false;
}

bool is_riff(std::string_view b) {
  if (!b.starts_with("RIFF"sv)) return false;
  for (const auto s : {"WAVE"sv, "WEBP"sv, "AVI "sv})
    if (has(b, 8, s)) return true;
  return false;
}

bool is_mp3(std::string_view b) {
  return b.size() >= 10 && b.starts_with("ID3"sv) && b[3] >= 2 && b[3] <= 4 && b[4] == 0;
}

// The tables of numbers and names below begin with these bytes.
template <size_t n>
constexpr bool any_of(std::string_view b, const std::array<std::string_view, n>& signatures) {
  return std::any_of(signatures.begin(), signatures.end(), [&](std::string_view s) { return b.starts_with(s); });
}

struct Signature {
  FileKind kind;
  bool (*matches)(std::string_view bytes);
};

// Every kind there is: a new one is a line here. Signatures of fewer than three bytes, or of letters alone, are checked
// further, so that no text is taken for something else.
constexpr Signature signatures[] = {
    {{"gzip data", "", Compression::gzip}, is_gzip},
    {{"zstd data", "", Compression::zstd}, is_zstd},
    {{"an HDF5 file, as Hone's models are", of_models}, is_hdf5},
    {{"a safetensors file", of_models}, is_safetensors},
    {{"a GGUF model", of_models}, is_gguf},
    {{"a Python pickle", of_others}, is_pickle},
    {{"a NumPy array", of_others}, [](std::string_view b) { return b.starts_with("\x93NUMPY"sv); }},
    {{"xz data", of_compressed},
     [](std::string_view b) {
       return b.starts_with(
           "\xfd"
           "7zXZ\0"sv);
     }},
    {{"bzip2 data", of_compressed}, is_bzip2},
    {{"LZ4 data", of_compressed}, [](std::string_view b) { return b.starts_with("\x04\x22\x4d\x18"sv); }},
    {{"lzip data", of_compressed}, [](std::string_view b) { return b.starts_with("LZIP\1"sv); }},
    {{"a ZIP archive, as .docx, .xlsx, .npz and PyTorch's files are too", of_archives},
     [](std::string_view b) {
       return any_of<3>(b, {"PK\3\4"sv, "PK\5\6"sv, "PK\7\x8"sv});
     }},
    {{"a tar archive", of_archives},
     [](std::string_view b) { return has(b, 257, "ustar\0"sv) || has(b, 257, "ustar  \0"sv); }},
    {{"a 7z archive", of_archives}, [](std::string_view b) { return b.starts_with("7z\xbc\xaf\x27\x1c"sv); }},
    {{"a RAR archive", of_archives}, [](std::string_view b) { return b.starts_with("Rar!\x1a\x07"sv); }},
    {{"a Parquet table", of_tables},
     [](std::string_view b) { return b.size() >= 12 && b.starts_with("PAR1"sv) && b.ends_with("PAR1"sv); }},
    {{"an Arrow table", of_tables}, [](std::string_view b) { return b.starts_with("ARROW1\0\0"sv); }},
    {{"an Avro file", of_tables}, [](std::string_view b) { return b.starts_with("Obj\1"sv); }},
    {{"an SQLite database", of_tables}, [](std::string_view b) { return b.starts_with("SQLite format 3\0"sv); }},
    {{"a PDF document", of_documents}, [](std::string_view b) { return b.starts_with("%PDF-"sv); }},
    {{"an old Office document", of_documents},
     [](std::string_view b) { return b.starts_with("\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"sv); }},
    {{"a PNG image", of_others}, [](std::string_view b) { return b.starts_with("\x89PNG\r\n\x1a\n"sv); }},
    {{"a JPEG image", of_others}, [](std::string_view b) { return b.size() > 3 && b.starts_with("\xff\xd8\xff"sv); }},
    {{"a GIF image", of_others},
     [](std::string_view b) {
       return any_of<2>(b, {"GIF87a"sv, "GIF89a"sv});
     }},
    {{"a TIFF image", of_others},
     [](std::string_view b) {
       return any_of<2>(b, {"II*\0"sv, "MM\0*"sv});
     }},
    {{"a RIFF file of sound or images", of_others}, is_riff},
    {{"an Ogg stream", of_others}, [](std::string_view b) { return b.starts_with("OggS\0"sv); }},
    {{"a FLAC recording", of_others}, [](std::string_view b) { return b.starts_with("fLaC\0"sv); }},
    {{"an MP3 recording", of_others}, is_mp3},
    {{"an MP4 file", of_others}, [](std::string_view b) { return b.starts_with("\0\0"sv) && has(b, 4, "ftyp"sv); }},
    {{"an ELF program or library", of_others},
     [](std::string_view b) {
       return b.starts_with(
           "\x7f"
           "ELF"sv);
     }},
    {{"a Mach-O program or library", of_others}, is_mach_o},
    {{"a Windows program or library", of_others}, is_windows_program},
    {{"a WebAssembly module", of_others}, [](std::string_view b) { return b.starts_with("\0asm"sv); }},
};

}  // namespace

const FileKind* file_kind(std::string_view bytes) {
  for (const Signature& signature : signatures)
    if (signature.matches(bytes)) return &signature.kind;
  return nullptr;
}

void refuse_known_binary(std::string_view bytes, const std::string& name) {
  const FileKind* kind = file_kind(bytes);
  if (kind && kind->compression == Compression::none)
    throw input_error("{} is {}, not text: {}", in_message(name), kind->name, kind->advice);
}

std::string in_message(const std::string& name) {
  return name == "standard input" ? name : "'" + name + "'";
}

}  // namespace hone

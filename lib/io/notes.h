// Attributes that are not Hone's: what users and other tools write beside ours. Private to this room.
#pragma once

#include <hdf5.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "io/model_file.h"

namespace hone {

// The attributes of an object for which ours() is false. Left out is what cannot be copied by itself: references,
// sequences of variable length other than texts, more than 32 KiB, and what HDF5 fails to read.
Notes read_notes(hid_t object, const std::function<bool(const std::string&)>& ours, const std::string& where);

// Adds them to an object; one that HDF5 does not take is left out, because the model matters more.
void write_notes(hid_t object, const Notes& notes);

nlohmann::json to_json(const Notes& notes);  // binary; for CBOR
Notes notes_of(const nlohmann::json& json);  // throws nlohmann::json::exception

}  // namespace hone

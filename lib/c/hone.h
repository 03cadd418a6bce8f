/* A model for programs in C, or in any language that calls C: load a file, feed tokens, get logits. Installed as
 * <hone/hone.h>; `pkg-config --cflags --libs hone` says how to compile and link.
 *
 * Errors. A call that fails returns NULL or a negative number, and hone_error() then says what went wrong, in the words
 * that the tools use. No exception leaves the library, and no signal handler is installed.
 *
 * Threads. Different threads may call with the same model at once; each needs a session of its own, which one thread
 * uses at a time. hone_error() is the calling thread's. Inside a call the library computes in hone_set_threads()
 * threads of its own. In threads that compute, numbers below 1e-38 become 0 from the first call on (the processor's
 * flush-to-zero): results must not depend on which thread they come from.
 *
 * Numbers. Weights are used as the file has them (packed ones without unpacking), activations and sums are f32, as with
 * `eval --precision f32`. */
#ifndef HONE_HONE_H
#define HONE_HONE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct hone_model hone_model;
typedef struct hone_session hone_session;

/* What a call returns that fails: the exit statuses of the tools, negative. */
enum { HONE_INTERNAL = -1, HONE_USAGE = -2, HONE_INPUT = -3 };

const char* hone_version(void);

/* What went wrong in this thread's last call that failed, in one line, or "". It stays until the next one fails. */
const char* hone_error(void);

/* 1 or more. Until it is called: HONE_THREADS, else OMP_NUM_THREADS, else the processor's cores. Returns 0 or an
 * error. Not while another thread computes. */
int hone_set_threads(int threads);

/* A model file, checked whole: damage is an error here. NULL where it fails. */
hone_model* hone_load(const char* path);
/* Sessions of the model may live on. NULL is nothing to do. */
void hone_free(hone_model* model);

/* Tokens that there are, which is the length of a row of logits; and tokens of the windows it was trained with. */
int64_t hone_vocabulary(const hone_model* model);
int64_t hone_context(const hone_model* model);

/* The tokens of a text of `bytes` bytes: their number, of which the first `capacity` are written to `ids` (which may be
 * NULL for a capacity of 0). */
int64_t hone_encode(const hone_model* model, const char* text, size_t bytes, int32_t* ids, int64_t capacity);
/* And back: the number of bytes, of which the first `capacity` are written to `text`, without a 0 behind them. */
int64_t hone_decode(const hone_model* model, const int32_t* ids, int64_t count, char* text, int64_t capacity);

/* An empty text with room for `capacity` tokens: memory for their keys and values is taken now. NULL where it fails. */
hone_session* hone_begin(const hone_model* model, int64_t capacity);
void hone_end(hone_session* session); /* NULL is nothing to do */

/* Adds `count` tokens (1 or more) to the text. `logits` gets those of the token that follows, [vocabulary] floats.
 * Returns 0 or an error; what exceeds the capacity is one, and adds nothing. */
int hone_feed(hone_session* session, const int32_t* ids, int64_t count, float* logits);
/* The same with the logits behind each of the tokens, [count][vocabulary] floats. */
int hone_feed_all(hone_session* session, const int32_t* ids, int64_t count, float* logits);

/* Tokens of the text so far; and back to none. */
int64_t hone_length(const hone_session* session);
int hone_restart(hone_session* session);

#ifdef __cplusplus
}
#endif

#endif

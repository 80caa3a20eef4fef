// The pass of a decoder in int8 or int4 on a CPU with VNNI: matrix products with what is around them, and attention.
//
// gptctl/infer/native/library.py compiles this file, and int8_layers.py describes the arguments. Each output is computed
// in one way, whatever other rows there are, so the result of a row does not depend on its batch. Sums of integer
// products are exact. Work is divided among threads in units that they claim one by one.
//
// Shapes: M rows (tokens), K inputs, N outputs, H heads, G key-value heads, D head dimension, S cached slots.

#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// ---- Vectors: 16 floats with AVX-512, 8 with AVX2 ----

#if defined(__AVX512VNNI__)
#define LANES 16
#define TILE 12  // rows: 12 x 2 sums, 2 weights and an activation fit into 32 registers
typedef __m512 vf;
typedef __m512i vi;
#define vf_load _mm512_loadu_ps
#define vf_store _mm512_storeu_ps
#define vf_set _mm512_set1_ps
#define vf_add _mm512_add_ps
#define vf_sub _mm512_sub_ps
#define vf_mul _mm512_mul_ps
#define vf_div _mm512_div_ps
#define vf_max _mm512_max_ps
#define vf_min _mm512_min_ps
#define vf_fma _mm512_fmadd_ps
#define vf_sum _mm512_reduce_add_ps
#define vf_peak _mm512_reduce_max_ps
#define vf_round(x) _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vf_from_int _mm512_cvtepi32_ps
#define vi_from_float _mm512_cvtps_epi32
#define vi_load(p) _mm512_loadu_si512((const void *)(p))
#define vi_set _mm512_set1_epi32
#define vi_zero _mm512_setzero_si512
#define vi_add _mm512_add_epi32
#define vi_sub _mm512_sub_epi32
#define vi_shift(x, n) _mm512_slli_epi32(x, n)
#define vi_low(x) _mm512_and_si512(x, _mm512_set1_epi8(15))
#define vi_high(x) vi_low(_mm512_srli_epi16(x, 4))
#define vf_load_half(p) _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(p)))
#define as_float _mm512_castsi512_ps
#define as_int _mm512_castps_si512
#define vf_abs(x) _mm512_abs_ps(x)
static inline void store_bytes(uint8_t *to, vi x) { _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(x)); }
#elif defined(__AVXVNNI__)
#define LANES 8
#define TILE 6  // rows, for 16 registers
typedef __m256 vf;
typedef __m256i vi;
#define vf_load _mm256_loadu_ps
#define vf_store _mm256_storeu_ps
#define vf_set _mm256_set1_ps
#define vf_add _mm256_add_ps
#define vf_sub _mm256_sub_ps
#define vf_mul _mm256_mul_ps
#define vf_div _mm256_div_ps
#define vf_max _mm256_max_ps
#define vf_min _mm256_min_ps
#define vf_fma _mm256_fmadd_ps
#define vf_round(x) _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)
#define vf_from_int _mm256_cvtepi32_ps
#define vi_from_float _mm256_cvtps_epi32
#define vi_load(p) _mm256_loadu_si256((const __m256i *)(p))
#define vi_set _mm256_set1_epi32
#define vi_zero _mm256_setzero_si256
#define vi_add _mm256_add_epi32
#define vi_sub _mm256_sub_epi32
#define vi_shift(x, n) _mm256_slli_epi32(x, n)
#define vi_low(x) _mm256_and_si256(x, _mm256_set1_epi8(15))
#define vi_high(x) vi_low(_mm256_srli_epi16(x, 4))
#define vf_load_half(p) _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p)))
#define as_float _mm256_castsi256_ps
#define as_int _mm256_castps_si256
#define vf_abs(x) _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x)
static inline float fold(__m128 half, int maximum) {
    __m128 other = _mm_movehl_ps(half, half);
    half = maximum ? _mm_max_ps(half, other) : _mm_add_ps(half, other);
    other = _mm_shuffle_ps(half, half, 1);
    return _mm_cvtss_f32(maximum ? _mm_max_ss(half, other) : _mm_add_ss(half, other));
}
static inline float vf_sum(vf x) { return fold(_mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)), 0); }
static inline float vf_peak(vf x) { return fold(_mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1)), 1); }
static inline void store_bytes(uint8_t *to, vi x) {
    x = _mm256_and_si256(x, _mm256_set1_epi32(255));
    __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    _mm_storel_epi64((__m128i *)to, _mm_packus_epi16(words, words));
}
#else
#error "needs VNNI"
#endif

#define UNIT (2 * LANES)  // outputs that are computed together
#define GROUP 4           // inputs that one instruction multiplies and adds
#define BLOCK 32          // inputs whose weights in int4 have a common scale for each output
#define TILE4 (TILE / 2)  // rows in int4, which have sums in integers and in floats

int lanes(void) { return LANES; }

// e^x for x <= 88, with an error of a few units in the last place: 2^n times a polynomial of the rest (Cephes, expf).
static inline vf vf_exp(vf x) {
    x = vf_max(vf_min(x, vf_set(88.0f)), vf_set(-87.0f));
    vf n = vf_round(vf_mul(x, vf_set(1.44269504f)));
    vf r = vf_fma(n, vf_set(-0.693359375f), x);
    r = vf_fma(n, vf_set(2.12194440e-4f), r);
    vf p = vf_set(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set(5.0000001201e-1f));
    p = vf_fma(vf_mul(p, r), r, vf_add(r, vf_set(1.0f)));
    return as_float(vi_add(as_int(p), vi_shift(vi_from_float(n), 23)));
}

// ---- Threads: a pool that waits actively for a moment, because the next product comes soon ----
//
// A round is open until the caller finds no more work. Threads that come later, because other programs keep them from the
// processors, are not waited for.

#define ACTIVE_WAITS 20000
#define MAX_THREADS 256
#define CLOSED (-1)
typedef void (*Work)(void *arguments, int thread);

static pthread_mutex_t one_caller = PTHREAD_MUTEX_INITIALIZER, sleep_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more_work = PTHREAD_COND_INITIALIZER;
static atomic_uint round_number;
static atomic_int joined = CLOSED, finished, sleepers;  // threads that have joined a round and finished their part
static int started = 1, used = 1;                        // threads, the caller among them
static Work work;
static void *work_arguments;

static unsigned first_round[MAX_THREADS];  // the last round before a thread was started

static void *serve(void *number) {
    int thread = (int)(intptr_t)number;
    unsigned seen = first_round[thread];
    for (;;) {
        unsigned waited = 0;
        while (atomic_load_explicit(&round_number, memory_order_acquire) == seen && waited < ACTIVE_WAITS) {
            _mm_pause();
            waited++;
        }
        if (atomic_load(&round_number) == seen) {
            pthread_mutex_lock(&sleep_lock);
            atomic_fetch_add(&sleepers, 1);
            while (atomic_load(&round_number) == seen) pthread_cond_wait(&more_work, &sleep_lock);
            atomic_fetch_sub(&sleepers, 1);
            pthread_mutex_unlock(&sleep_lock);
        }
        seen = atomic_load(&round_number);
        int others = atomic_load(&joined);
        while (others != CLOSED && !atomic_compare_exchange_weak(&joined, &others, others + 1)) {
        }
        if (others == CLOSED) continue;
        if (thread < used) work(work_arguments, thread);
        atomic_fetch_add_explicit(&finished, 1, memory_order_release);
    }
    return NULL;
}

static void forget_threads(void) {  // a forked child has none, and the locks may have been held
    started = 1;
    atomic_store(&sleepers, 0);
    atomic_store(&finished, 0);
    atomic_store(&joined, CLOSED);
    pthread_mutex_init(&one_caller, NULL);
    pthread_mutex_init(&sleep_lock, NULL);
    pthread_cond_init(&more_work, NULL);
}

static void start_threads(int count) {
    static int registered;
    if (!registered) registered = !pthread_atfork(NULL, NULL, forget_threads);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    while (started < count && started < MAX_THREADS) {
        pthread_t made;
        first_round[started] = atomic_load(&round_number);
        if (pthread_create(&made, &attributes, serve, (void *)(intptr_t)started)) break;
        started++;
    }
    pthread_attr_destroy(&attributes);
}

static void run(Work function, void *arguments, int threads) {  // the caller holds one_caller
    if (started < threads) start_threads(threads);
    used = threads < started ? threads : started;
    if (used < 2) {
        function(arguments, 0);
        return;
    }
    work = function;
    work_arguments = arguments;
    atomic_store(&joined, 0);
    atomic_fetch_add(&round_number, 1);
    if (atomic_load(&sleepers)) {
        pthread_mutex_lock(&sleep_lock);
        pthread_cond_broadcast(&more_work);
        pthread_mutex_unlock(&sleep_lock);
    }
    function(arguments, 0);
    int others = atomic_exchange(&joined, CLOSED);
    for (unsigned waited = 1; atomic_load_explicit(&finished, memory_order_acquire) < others; waited++) {
        if (waited % 1024)
            _mm_pause();
        else
            sched_yield();  // another thread may need this processor
    }
    atomic_store(&finished, 0);
}

// Memory of each thread that grows and is kept. The first thread's holds what all of them read, too.
static struct { char *memory; size_t size; } scratch[MAX_THREADS];

static int reserve(int thread, size_t size) {  // returns whether there is room
    if (scratch[thread].size < size) {
        free(scratch[thread].memory);
        scratch[thread].memory = aligned_alloc(64, (size + 63) / 64 * 64);
        scratch[thread].size = scratch[thread].memory ? size : 0;
    }
    return scratch[thread].memory != NULL;
}

// ---- Products: y = f(norm(x) W^T + b) + residual ----

enum { NO_NORM, LAYER_NORM, RMS_NORM };
enum { NO_ACTIVATION, RELU, RELU_SQUARED, GELU_TANH, GELU, SILU };

typedef struct {
    const int8_t *weights;  // (units, K / 4, UNIT, 4); of a gated layer, units of gate and up by turns
    // In int4, (units, K / 32, 4, UNIT, 4), weight + 8 of the inputs 0 to 15 of a block in the lower half of bytes.
    const uint16_t *block_scales;  // in int4, (units, K / 32, UNIT), in float16
    const float *scales;    // of each output in int8
    const int32_t *sums;    // 128 times the sum of each output's weights
    const float *bias;      // of each output, or NULL
    const float *norm_weight, *norm_bias;  // (K,), or NULL
    int64_t inputs, padded_inputs, outputs, units;
    float norm_eps;
    int32_t norm, activation, gated, bits;
} Linear;

typedef struct {
    const Linear *layer;
    const float *x, *residual;
    float *y;
    int64_t rows;
    int is_shared;  // the rows have been quantized into the first thread's memory
    atomic_long *next;
} Product;

static void normalize(const Linear *layer, const float *x, float *y) {
    int64_t K = layer->inputs, whole = K / LANES * LANES, k;
    float mean = 0, squares = 0;
    vf total = vf_set(0);
    if (layer->norm == LAYER_NORM) {
        for (k = 0; k < whole; k += LANES) total = vf_add(total, vf_load(x + k));
        mean = vf_sum(total);
        for (; k < K; k++) mean += x[k];
        mean /= K;
    }
    total = vf_set(0);
    for (k = 0; k < whole; k += LANES) {
        vf d = vf_sub(vf_load(x + k), vf_set(mean));
        total = vf_fma(d, d, total);
    }
    squares = vf_sum(total);
    for (; k < K; k++) squares += (x[k] - mean) * (x[k] - mean);
    float factor = 1 / sqrtf(squares / K + layer->norm_eps);
    const float *weight = layer->norm_weight, *bias = layer->norm_bias;
    for (k = 0; k < whole; k += LANES) {
        vf d = vf_mul(vf_sub(vf_load(x + k), vf_set(mean)), vf_set(factor));
        if (weight) d = vf_mul(d, vf_load(weight + k));
        vf_store(y + k, bias ? vf_add(d, vf_load(bias + k)) : d);
    }
    for (; k < K; k++) y[k] = (x[k] - mean) * factor * (weight ? weight[k] : 1) + (bias ? bias[k] : 0);
}

// Quantize a row to bytes around `middle`, and return the scale. A row that is not finite gets a scale that is not. Each
// group of 4 bytes is `stride` bytes behind the one before.
static float quantize(const float *x, int64_t K, int64_t padded, int middle, uint8_t *to, size_t stride) {
    int64_t whole = K / LANES * LANES, k;
    uint8_t some[LANES];
    vf peaks = vf_set(0), probe = vf_set(0);
    for (k = 0; k < whole; k += LANES) {
        vf one = vf_load(x + k);
        peaks = vf_max(peaks, vf_abs(one));
        probe = vf_fma(one, vf_set(0), probe);  // NaN if any is infinite or NaN
    }
    float peak = vf_peak(peaks), not_finite = vf_sum(probe);
    for (; k < K; k++) {
        peak = fmaxf(peak, fabsf(x[k]));
        not_finite += x[k] * 0;
    }
    peak = fmaxf(peak, 1e-30f);
    for (k = 0; k < padded; k += LANES) {
        if (k < whole) {
            vf share = vf_div(vf_load(x + k), vf_set(peak));
            store_bytes(some, vi_add(vi_from_float(vf_mul(share, vf_set(127))), vi_set(middle)));
        } else {
            for (int i = 0; i < LANES; i++) some[i] = k + i < K ? (int)rintf(x[k + i] / peak * 127) + middle : middle;
        }
        for (int i = 0; i < LANES && k + i < padded; i += GROUP, to += stride) memcpy(to, some + i, GROUP);
    }
    return peak / 127 + not_finite;
}

// Rows are computed in tiles of equal size, the last of which may be smaller. The bytes of a tile are (K / 4, rows, 4).
static int64_t tile_rows(const Product *p) {
    int64_t most = p->layer->bits == 4 ? TILE4 : TILE, tiles = (p->rows + most - 1) / most;
    return (p->rows + tiles - 1) / tiles;
}

static int64_t rows_of_tile(const Product *p, int64_t first) {
    int64_t usual = tile_rows(p);
    return p->rows - first < usual ? p->rows - first : usual;
}

static size_t all_bytes(const Product *p) { return (p->rows * p->layer->padded_inputs + 63) / 64 * 64; }

// Memory for the quantized rows: their bytes, their scales, in int4 8 times the sums of their blocks, and a row for each
// thread to normalize in.
static size_t scales_at(const Product *p) { return all_bytes(p); }
static size_t sums_at(const Product *p) { return scales_at(p) + p->rows * sizeof(float); }
static size_t normed_at(const Product *p, int thread) {
    size_t blocks = p->layer->bits == 4 ? p->rows * p->layer->padded_inputs / BLOCK : 0;
    return sums_at(p) + blocks * sizeof(int32_t) + thread * p->layer->inputs * sizeof(float);
}

static void quantize_row(const Product *p, int64_t row, char *memory, float *normed) {
    const Linear *layer = p->layer;
    const float *x = p->x + row * layer->inputs;
    int64_t place = row % tile_rows(p), first = row - place, blocks = layer->padded_inputs / BLOCK;
    uint8_t *bytes = (uint8_t *)memory + first * layer->padded_inputs + GROUP * place;
    size_t stride = GROUP * rows_of_tile(p, first);
    if (layer->norm != NO_NORM) {
        normalize(layer, x, normed);
        x = normed;
    }
    int middle = layer->bits == 4 ? 0 : 128;
    ((float *)(memory + scales_at(p)))[row] = quantize(x, layer->inputs, layer->padded_inputs, middle, bytes, stride);
    if (layer->bits != 4) return;
    for (int64_t block = 0; block < blocks; block++) {
        int32_t sum = 0;
        for (int i = 0; i < BLOCK / GROUP; i++, bytes += stride)
            for (int j = 0; j < GROUP; j++) sum += (int8_t)bytes[j];
        ((int32_t *)(memory + sums_at(p)))[row * blocks + block] = 8 * sum;
    }
}

static void quantize_rows(void *arguments, int thread) {  // of large batches, into the first thread's memory
    Product *p = arguments;
    char *memory = scratch[0].memory;
    float *normed = (float *)(memory + normed_at(p, thread));
    for (int64_t row; (row = atomic_fetch_add(p->next, 1)) < p->rows;) quantize_row(p, row, memory, normed);
}

static inline vf activate(vf x, int activation) {
    vf inner;
    float one[LANES];
    switch (activation) {
        case RELU: return vf_max(x, vf_set(0));
        case RELU_SQUARED: return vf_mul(vf_max(x, vf_set(0)), vf_max(x, vf_set(0)));
        case SILU: return vf_div(x, vf_add(vf_set(1), vf_exp(vf_sub(vf_set(0), x))));
        case GELU_TANH:  // 1 + tanh(u) = 2 / (1 + e^(-2u))
            inner = vf_mul(vf_fma(vf_mul(vf_mul(x, x), x), vf_set(0.044715f), x), vf_set(-1.5957691216f));
            return vf_div(x, vf_add(vf_set(1), vf_exp(inner)));
        case GELU:
            vf_store(one, x);
            for (int i = 0; i < LANES; i++) one[i] = 0.5f * one[i] * (1 + erff(one[i] * 0.70710678f));
            return vf_load(one);
        default: return x;
    }
}

// The intrinsic's result would be copied to another register each time (GCC 12).
static inline __attribute__((always_inline)) void add_products(vi *sum, vi a, vi w) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(a), "v"(w));
}

// Each sum is a variable of its own, because GCC keeps arrays of them in memory. Sums of few rows are split into `ways`,
// because an instruction waits for the one before with the same sum: sum number s is of row s % rows.
#if TILE > 6
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#else
#define EACH(X) X(0) X(1) X(2) X(3) X(4) X(5)
#endif
#define AHEAD 8192  // bytes
#define BEGIN(s) vi first##s = vi_zero(), second##s = vi_zero();
#define ADD(s)                                                                  \
    if (s < rows * ways) {                                                      \
        const int8_t *from = w + (s / rows) * GROUP * UNIT;                     \
        int32_t four;                                                           \
        memcpy(&four, bytes + GROUP * s, GROUP);                                \
        add_products(&first##s, vi_set(four), vi_load(from));                   \
        add_products(&second##s, vi_set(four), vi_load(from + GROUP * LANES)); \
    }
#define END(s)                                                   \
    if (s < rows) {                                              \
        sums[s][0] = first##s;                                   \
        sums[s][1] = second##s;                                  \
    } else if (s < rows * ways) {                                \
        sums[s % rows][0] = vi_add(sums[s % rows][0], first##s); \
        sums[s % rows][1] = vi_add(sums[s % rows][1], second##s); \
    }

static inline __attribute__((always_inline)) void sum_products(
    const int8_t *w, const uint8_t *bytes, int64_t groups, const int rows, const int ways, vi sums[TILE][2]) {
    EACH(BEGIN)
    for (int64_t k = 0; k < groups; k += ways, w += ways * GROUP * UNIT, bytes += ways * GROUP * rows) {
        if (ways == 1)  // the processor does not foresee enough of what it needs while it computes much
            for (int line = 0; line < GROUP * UNIT; line += 64) _mm_prefetch((const char *)w + AHEAD + line, _MM_HINT_T0);
        EACH(ADD)
    }
    EACH(END)
}

#if TILE4 > 3
#define EACH4(X) X(0) X(1) X(2) X(3) X(4) X(5)
#else
#define EACH4(X) X(0) X(1) X(2)
#endif
#define BEGIN4(s) vf total##s = vf_set(0), more##s = vf_set(0);
#define BEGIN_BLOCK(s)                                                    \
    vi a##s = vi_zero(), b##s = vi_zero(), c##s = vi_zero(), d##s = vi_zero(); \
    if (s < rows) a##s = b##s = vi_sub(vi_zero(), vi_set(sums[s * blocks + block]));
#define ADD4(s)                                              \
    if (s < rows) {                                          \
        int32_t four, later;                                 \
        memcpy(&four, bytes + GROUP * s, GROUP);             \
        memcpy(&later, bytes + GROUP * (4 * rows + s), GROUP); \
        add_products(&a##s, low0, vi_set(four));             \
        add_products(&b##s, low1, vi_set(four));             \
        add_products(rows > 2 ? &a##s : &c##s, high0, vi_set(later)); \
        add_products(rows > 2 ? &b##s : &d##s, high1, vi_set(later)); \
    }
#define END_BLOCK(s)                                                          \
    if (s < rows) {                                                           \
        if (rows <= 2) a##s = vi_add(a##s, c##s), b##s = vi_add(b##s, d##s);  \
        total##s = vf_fma(vf_from_int(a##s), scale0, total##s);               \
        more##s = vf_fma(vf_from_int(b##s), scale1, more##s);                 \
    }
#define END4(s) \
    if (s < rows) out[s][0] = total##s, out[s][1] = more##s;

static inline __attribute__((always_inline)) void sum_blocks(
    const int8_t *w, const uint16_t *scales, const uint8_t *bytes, const int32_t *sums, int64_t blocks, const int rows,
    vf out[TILE4][2]) {
    EACH4(BEGIN4)
    for (int64_t block = 0; block < blocks; block++, bytes += 4 * GROUP * rows, scales += UNIT) {
        EACH4(BEGIN_BLOCK)
#pragma GCC unroll 4
        for (int part = 0; part < 4; part++, w += GROUP * UNIT, bytes += GROUP * rows) {
            for (int line = 0; line < GROUP * UNIT; line += 64) _mm_prefetch((const char *)w + AHEAD + line, _MM_HINT_T0);
            vi both0 = vi_load(w), both1 = vi_load(w + GROUP * LANES);
            vi low0 = vi_low(both0), low1 = vi_low(both1), high0 = vi_high(both0), high1 = vi_high(both1);
            EACH4(ADD4)
        }
        vf scale0 = vf_load_half(scales), scale1 = vf_load_half(scales + LANES);
        EACH4(END_BLOCK)
    }
    EACH4(END4)
}

static void unit_of_tile4(const Product *p, int64_t unit, const char *memory, int64_t row, int64_t rows, float out[TILE][UNIT]) {
    const Linear *layer = p->layer;
    vf totals[TILE4][2];
    int64_t blocks = layer->padded_inputs / BLOCK;
    const uint8_t *bytes = (const uint8_t *)memory + row * layer->padded_inputs;
    const int8_t *w = layer->weights + unit * UNIT * layer->padded_inputs / 2;
    const uint16_t *scales = layer->block_scales + unit * UNIT * blocks;
    const int32_t *sums = (const int32_t *)(memory + sums_at(p)) + row * blocks;
    const float *row_scales = (const float *)(memory + scales_at(p)) + row;
    switch (rows) {
        case 1: sum_blocks(w, scales, bytes, sums, blocks, 1, totals); break;
        case 2: sum_blocks(w, scales, bytes, sums, blocks, 2, totals); break;
#if TILE4 > 3
        case 3: sum_blocks(w, scales, bytes, sums, blocks, 3, totals); break;
        case 4: sum_blocks(w, scales, bytes, sums, blocks, 4, totals); break;
        case 5: sum_blocks(w, scales, bytes, sums, blocks, 5, totals); break;
#endif
        default: sum_blocks(w, scales, bytes, sums, blocks, TILE4, totals);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++) {
            vf y = vf_mul(totals[r][j], vf_set(row_scales[r]));
            if (layer->bias) y = vf_add(y, vf_load(layer->bias + unit * UNIT + j * LANES));
            vf_store(out[r] + j * LANES, y);
        }
}

// Compute a unit of outputs (rows, UNIT) of the tile that begins with a row, before activation.
static void unit_of_tile(const Product *p, int64_t unit, const char *memory, int64_t row, int64_t rows, float out[TILE][UNIT]) {
    const Linear *layer = p->layer;
    if (layer->bits == 4) {
        unit_of_tile4(p, unit, memory, row, rows, out);
        return;
    }
    vi sums[TILE][2];
    int64_t groups = layer->padded_inputs / GROUP, first = unit * UNIT;
    const uint8_t *bytes = (const uint8_t *)memory + row * layer->padded_inputs;
    const int8_t *w = layer->weights + unit * UNIT * layer->padded_inputs;
    const float *row_scales = (const float *)(memory + scales_at(p)) + row;
    switch (rows) {
        case 1: sum_products(w, bytes, groups, 1, 4, sums); break;
        case 2: sum_products(w, bytes, groups, 2, 2, sums); break;
        case 3: sum_products(w, bytes, groups, 3, 2, sums); break;
        case 4: sum_products(w, bytes, groups, 4, 1, sums); break;
        case 5: sum_products(w, bytes, groups, 5, 1, sums); break;
#if TILE > 6
        case 6: sum_products(w, bytes, groups, 6, 1, sums); break;
        case 7: sum_products(w, bytes, groups, 7, 1, sums); break;
        case 8: sum_products(w, bytes, groups, 8, 1, sums); break;
        case 9: sum_products(w, bytes, groups, 9, 1, sums); break;
        case 10: sum_products(w, bytes, groups, 10, 1, sums); break;
        case 11: sum_products(w, bytes, groups, 11, 1, sums); break;
#endif
        default: sum_products(w, bytes, groups, TILE, 1, sums);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < 2; j++) {
            int64_t n = first + j * LANES;
            vf y = vf_mul(vf_from_int(vi_sub(sums[r][j], vi_load(layer->sums + n))), vf_load(layer->scales + n));
            y = vf_mul(y, vf_set(row_scales[r]));
            vf_store(out[r] + j * LANES, layer->bias ? vf_add(y, vf_load(layer->bias + n)) : y);
        }
}

static void compute_units(void *arguments, int thread) {
    Product *p = arguments;
    const Linear *layer = p->layer;
    char *memory = scratch[p->is_shared ? 0 : thread].memory;
    if (!p->is_shared)
        for (int64_t row = 0; row < p->rows; row++) quantize_row(p, row, memory, (float *)(memory + normed_at(p, 0)));
    int64_t turns = layer->gated ? layer->units / 2 : layer->units, width = layer->outputs;
    float out[TILE][UNIT], gate[TILE][UNIT];
    for (int64_t turn; (turn = atomic_fetch_add(p->next, 1)) < turns;)
        for (int64_t row = 0, rows; row < p->rows; row += rows) {
            rows = rows_of_tile(p, row);
            if (layer->gated) {
                unit_of_tile(p, 2 * turn, memory, row, rows, gate);
                unit_of_tile(p, 2 * turn + 1, memory, row, rows, out);
            } else {
                unit_of_tile(p, turn, memory, row, rows, out);
            }
            for (int r = 0; r < rows; r++) {
                for (int i = 0; i < UNIT; i += LANES) {
                    vf y = vf_load(out[r] + i);
                    y = layer->gated ? vf_mul(activate(vf_load(gate[r] + i), layer->activation), y)
                                     : activate(y, layer->activation);
                    vf_store(out[r] + i, y);
                }
                int64_t first = turn * UNIT, count = width - first < UNIT ? width - first : UNIT;
                float *to = p->y + (row + r) * width + first;
                if (p->residual) {
                    const float *before = p->residual + (row + r) * width + first;
                    for (int64_t i = 0; i < count; i++) to[i] = before[i] + out[r][i];
                } else {
                    memcpy(to, out[r], count * sizeof(float));
                }
            }
        }
}

#define ROWS_OF_EACH 4  // so few rows are quantized by each thread for itself, which is sooner than to wait

// Compute y (M, N) from x (M, K), and a residual (M, N) or NULL, which may be y. Return whether there was enough memory.
int product(const Linear *layer, const float *x, const float *residual, float *y, int64_t rows, int threads) {
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    pthread_mutex_lock(&one_caller);
    atomic_long quantized = 0, computed = 0;
    Product all = {layer, x, residual, y, rows, rows > ROWS_OF_EACH, &quantized};
    int has_room = 1;
    for (int thread = 0; thread < (all.is_shared ? 1 : threads); thread++)
        has_room &= reserve(thread, normed_at(&all, all.is_shared ? threads : 1));
    if (has_room) {
        if (all.is_shared) run(quantize_rows, &all, threads);
        all.next = &computed;
        run(compute_units, &all, threads);
    }
    pthread_mutex_unlock(&one_caller);
    return has_room;
}

// ---- Attention of few new tokens to the cache ----

typedef struct {
    const float *query_norm, *key_norm;  // (D,), or NULL
    float norm_eps, scale, softcap, clip;
    int32_t heads, kv_heads, head_dim, window;
} Attention;

typedef struct {
    const Attention *layer;
    float *heads;                  // (B, T, H + 2 G, D); queries and keys are rotated where they are
    const float *cosines, *sines;  // (B or 1, T, R / 2), or NULL
    int64_t half, angle_stride;    // R / 2, and the numbers from row to row
    float *keys, *values;          // (B, G, S, D) with the strides of rows and heads
    int64_t row_stride, head_stride;
    const int64_t *lengths;  // (B,), before the new tokens
    float *out;              // (B, T, H, D)
    int64_t rows, tokens;
    atomic_long *next;
} Attending;

static float dot(const float *a, const float *b, int64_t D) {
    vf total = vf_set(0);
    int64_t d = 0;
    for (; d + LANES <= D; d += LANES) total = vf_fma(vf_load(a + d), vf_load(b + d), total);
    float sum = vf_sum(total);
    for (; d < D; d++) sum += a[d] * b[d];
    return sum;
}

static void prepare_head(const Attending *p, float *x, const float *norm, int64_t row, int64_t token) {
    const Attention *layer = p->layer;
    int64_t D = layer->head_dim, half = p->half;
    if (norm) {
        float factor = 1 / sqrtf(dot(x, x, D) / D + layer->norm_eps);
        for (int64_t d = 0; d < D; d++) x[d] = x[d] * factor * norm[d];
    }
    if (!p->cosines) return;
    const float *cosines = p->cosines + row * p->angle_stride + token * half;
    const float *sines = p->sines + row * p->angle_stride + token * half;
    for (int64_t i = 0; i < half; i++) {
        float first = x[i], second = x[i + half];
        x[i] = first * cosines[i] - second * sines[i];
        x[i + half] = second * cosines[i] + first * sines[i];
    }
}

// Write softmax(q K^T scale) V of slots [first, end) to y (D,). `weights` has room for them.
static void attend(const Attention *layer, const float *q, const float *keys, const float *values, int64_t first,
                   int64_t end, float *weights, float *y) {
    int64_t D = layer->head_dim, count = end - first, padded = (count + LANES - 1) / LANES * LANES, i;
    keys += first * D;
    values += first * D;
    float highest = -INFINITY;
    for (i = 0; i < count; i++) {
        float logit = dot(q, keys + i * D, D) * layer->scale;
        if (layer->softcap) logit = layer->softcap * tanhf(logit / layer->softcap);
        weights[i] = logit;
        highest = logit > highest || logit != logit ? logit : highest;
    }
    for (; i < padded; i++) weights[i] = -INFINITY;
    vf total = vf_set(0);
    for (i = 0; i < padded; i += LANES) {
        vf one = vf_exp(vf_sub(vf_load(weights + i), vf_set(highest)));
        vf_store(weights + i, one);
    }
    for (i = count; i < padded; i++) weights[i] = 0;
    for (i = 0; i < padded; i += LANES) total = vf_add(total, vf_load(weights + i));
    float factor = 1 / vf_sum(total) + highest * 0;  // NaN if a logit was
    int64_t d = 0;
    for (; d + 4 * LANES <= D; d += 4 * LANES) {
        vf a = vf_set(0), b = a, c = a, e = a;
        for (i = 0; i < count; i++) {
            const float *v = values + i * D + d;
            vf w = vf_set(weights[i]);
            a = vf_fma(w, vf_load(v), a);
            b = vf_fma(w, vf_load(v + LANES), b);
            c = vf_fma(w, vf_load(v + 2 * LANES), c);
            e = vf_fma(w, vf_load(v + 3 * LANES), e);
        }
        vf f = vf_set(factor);
        vf_store(y + d, vf_mul(a, f));
        vf_store(y + d + LANES, vf_mul(b, f));
        vf_store(y + d + 2 * LANES, vf_mul(c, f));
        vf_store(y + d + 3 * LANES, vf_mul(e, f));
    }
    for (; d + LANES <= D; d += LANES) {
        vf a = vf_set(0);
        for (i = 0; i < count; i++) a = vf_fma(vf_set(weights[i]), vf_load(values + i * D + d), a);
        vf_store(y + d, vf_mul(a, vf_set(factor)));
    }
    for (; d < D; d++) {
        float a = 0;
        for (i = 0; i < count; i++) a += weights[i] * values[i * D + d];
        y[d] = a * factor;
    }
}

static void attend_heads(void *arguments, int thread) {  // a unit is a key-value head of a row, with all its tokens
    Attending *p = arguments;
    const Attention *layer = p->layer;
    int64_t H = layer->heads, G = layer->kv_heads, D = layer->head_dim, width = (H + 2 * G) * D, sharing = H / G;
    float *weights = (float *)scratch[thread].memory;
    for (int64_t unit; (unit = atomic_fetch_add(p->next, 1)) < p->rows * G;) {
        int64_t row = unit / G, g = unit % G;
        float *keys = p->keys + row * p->row_stride + g * p->head_stride;
        float *values = p->values + row * p->row_stride + g * p->head_stride;
        for (int64_t token = 0; token < p->tokens; token++) {
            float *of_token = p->heads + (row * p->tokens + token) * width;
            float *k = of_token + (H + g) * D, *v = of_token + (H + G + g) * D;
            int64_t slot = p->lengths[row] + token, end = slot + 1;
            if (layer->clip)
                for (int64_t d = 0; d < D; d++) {
                    k[d] = fminf(fmaxf(k[d], -layer->clip), layer->clip);
                    v[d] = fminf(fmaxf(v[d], -layer->clip), layer->clip);
                }
            prepare_head(p, k, layer->key_norm, row, token);
            memcpy(keys + slot * D, k, D * sizeof(float));
            memcpy(values + slot * D, v, D * sizeof(float));
            int64_t first = layer->window && end > layer->window ? end - layer->window : 0;
            for (int64_t h = g * sharing; h < (g + 1) * sharing; h++) {
                float *q = of_token + h * D;
                if (layer->clip)
                    for (int64_t d = 0; d < D; d++) q[d] = fminf(fmaxf(q[d], -layer->clip), layer->clip);
                prepare_head(p, q, layer->query_norm, row, token);
                attend(layer, q, keys, values, first, end, weights, p->out + ((row * p->tokens + token) * H + h) * D);
            }
        }
    }
}

// Store the keys and values of new tokens, and compute the attention of their queries. Return as above.
int attention(const Attention *layer, float *heads, const float *cosines, const float *sines, int64_t half,
               int64_t angle_stride, float *keys, float *values, int64_t row_stride, int64_t head_stride,
               const int64_t *lengths, float *out, int64_t rows, int64_t tokens, int threads) {
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    pthread_mutex_lock(&one_caller);
    int64_t longest = 0;
    for (int64_t row = 0; row < rows; row++) longest = lengths[row] > longest ? lengths[row] : longest;
    int has_room = 1;
    for (int thread = 0; thread < threads; thread++)
        has_room &= reserve(thread, (longest + tokens + LANES) * sizeof(float));
    atomic_long next = 0;
    Attending all = {layer, heads, cosines, sines, half, angle_stride, keys, values, row_stride,
                     head_stride, lengths, out, rows, tokens, &next};
    if (has_room) run(attend_heads, &all, threads);
    pthread_mutex_unlock(&one_caller);
    return has_room;
}

/* What the compilers spell differently. */

#ifndef SURGERY_PORTABLE_H
#define SURGERY_PORTABLE_H

/* Functions that are compiled for plain x86-64 and for AVX2. The loader chooses one. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define VECTORIZED __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef VECTORIZED
#define VECTORIZED
#endif

#if defined(_MSC_VER)
#define INLINE static __forceinline
#define restrict __restrict
#else
#define INLINE static inline __attribute__((always_inline))
#endif

#endif

/* Linked into the tests under ThreadSanitizer in place of its own function (`--wrap`), see `sanitizers`.
 *
 * std's Arc and those of other crates count down with a release, and the last owner then acquires by a fence. The
 * sanitizer does not understand fences, and so reports every destructor, and whatever is changed in place by an owner
 * that finds itself the last. A release that acquires as well says the same in words that it understands. */
#include <stdint.h>

enum { RELEASE = 3, ACQUIRE_RELEASE = 4 };

uint64_t __real___tsan_atomic64_fetch_sub(volatile uint64_t *count, uint64_t by, int order);

uint64_t __wrap___tsan_atomic64_fetch_sub(volatile uint64_t *count, uint64_t by, int order) {
    return __real___tsan_atomic64_fetch_sub(count, by, order == RELEASE ? ACQUIRE_RELEASE : order);
}

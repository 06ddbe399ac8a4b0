// Stand-ins for the functions of CANN's runtime (libascendcl) that have to do or return something.
// Device memory is the host's.

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include <sys/mman.h>

namespace {

using Status = int;
constexpr Status kSuccess = 0;
constexpr size_t kFreeBytes = 60UL << 30;
constexpr size_t kTotalBytes = 64UL << 30;
char context[64];

constexpr Status kNoMemory = 207001;

Status Handle(void **handle) {
  static char object[64];  // never read: only its address is handed on
  *handle = object;
  return kSuccess;
}

}  // namespace

extern "C" {

const char *aclrtGetSocName() { return "Ascend910B1"; }

Status aclrtGetDeviceCount(uint32_t *count) {
  *count = 8;
  return kSuccess;
}

Status aclrtGetDevice(int32_t *device) {
  *device = 0;
  return kSuccess;
}

Status aclrtGetVersion(int32_t *major, int32_t *minor, int32_t *patch) {
  *major = 1;
  *minor = 0;
  *patch = 0;
  return kSuccess;
}

Status aclrtGetMemInfo(int, size_t *free_bytes, size_t *total_bytes) {
  *free_bytes = kFreeBytes;
  *total_bytes = kTotalBytes;
  return kSuccess;
}

// MindSpore takes most of a device at once: pages exist only once they are written to.
Status aclrtMalloc(void **memory, size_t bytes, int) {
  constexpr int kPrivate = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  *memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, kPrivate, -1, 0);
  return *memory == MAP_FAILED ? kNoMemory : kSuccess;
}

Status aclrtFree(void *) { return kSuccess; }  // the end of the process frees it

Status aclrtMallocHost(void **memory, size_t bytes) {
  *memory = malloc(bytes);
  return *memory ? kSuccess : kNoMemory;
}

Status aclrtFreeHost(void *memory) {
  free(memory);
  return kSuccess;
}

Status aclrtMemcpy(void *target, size_t, const void *source, size_t bytes, int) {
  memcpy(target, source, bytes);
  return kSuccess;
}

Status aclrtMemcpyAsync(void *target, size_t, const void *source, size_t bytes, int, void *) {
  memcpy(target, source, bytes);
  return kSuccess;
}

Status aclrtMemset(void *memory, size_t, int32_t value, size_t bytes) {
  memset(memory, value, bytes);
  return kSuccess;
}

Status aclrtMemsetAsync(void *memory, size_t, int32_t value, size_t bytes, void *) {
  memset(memory, value, bytes);
  return kSuccess;
}

Status aclrtCreateContext(void **handle, int32_t) {
  *handle = context;
  return kSuccess;
}

Status aclrtGetCurrentContext(void **handle) {
  *handle = context;
  return kSuccess;
}

Status aclrtCreateStream(void **stream) { return Handle(stream); }
Status aclrtCreateStreamWithConfig(void **stream, uint32_t, uint32_t) { return Handle(stream); }
Status aclrtCreateEvent(void **event) { return Handle(event); }
Status aclrtCreateEventWithFlag(void **event, uint32_t) { return Handle(event); }
Status aclrtCreateEventExWithFlag(void **event, uint32_t) { return Handle(event); }

Status aclrtQueryEventStatus(void *, int *status) {
  *status = 1;  // complete
  return kSuccess;
}

}  // extern "C"

// Shared by the operators: threads, and a check of their arguments.

#pragma once

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace {

constexpr int64_t kSerialWork = 32768;  // fewer elements are not worth waking a thread

// Threads that sleep until there is work. MindSpore's own pool cannot be used from here, and OpenMP's
// threads would busy-wait beside it. The pool is never destroyed: at exit, or in a forked process,
// joining its threads is not safe.
class Pool {
 public:
  static Pool &instance() {
    static Pool *pool = new Pool;
    return *pool;
  }

  void run(int64_t count, int64_t work, const std::function<void(int64_t)> &body) {
    std::unique_lock<std::mutex> only(running_, std::try_to_lock);
    if (!only || work < kSerialWork || threads_ == 1 || getpid() != owner_) {
      for (int64_t i = 0; i < count; i++) body(i);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      body_ = &body, count_ = count, next_ = 0, generation_++;
    }
    wake_.notify_all();
    take_items(body);
    std::unique_lock<std::mutex> lock(mutex_);
    body_ = nullptr;  // a thread that wakes only now gets no work
    done_.wait(lock, [this] { return active_ == 0; });
  }

 private:
  Pool() : owner_(getpid()) {
    // The calling thread may be bound to one core; the process as a whole counts.
    if (sched_getaffinity(owner_, sizeof cores_, &cores_) == 0) threads_ = std::max(1, CPU_COUNT(&cores_));
    for (int i = 1; i < threads_; i++) std::thread([this] { serve(); }).detach();
  }

  void serve() {
    sched_setaffinity(0, sizeof cores_, &cores_);
    uint64_t seen = 0;
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      wake_.wait(lock, [&] { return body_ && generation_ != seen; });
      seen = generation_, active_++;
      const auto &body = *body_;
      lock.unlock();
      take_items(body);
      lock.lock();
      if (--active_ == 0) done_.notify_all();
    }
  }

  void take_items(const std::function<void(int64_t)> &body) {
    for (int64_t i; (i = next_.fetch_add(1)) < count_;) body(i);
  }

  const pid_t owner_;
  cpu_set_t cores_;
  int threads_ = 1, active_ = 0;
  std::mutex running_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int64_t)> *body_ = nullptr;
  int64_t count_ = 0;
  std::atomic<int64_t> next_{0};
  uint64_t generation_ = 0;
};

bool all_float32(int count, const char **types) {
  return std::all_of(types, types + count, [](const char *type) { return std::string(type) == "float32"; });
}

}  // namespace

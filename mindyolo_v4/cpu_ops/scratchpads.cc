// A thread pool of one thread with oneDNN's interface (public header dnnl_threadpool_iface.hpp).
//
// oneDNN reserves one scratchpad per thread of the pool that is active while a primitive is created.
// See scratchpads.py.

#include <cstdint>
#include <functional>

namespace {

struct ThreadPool {  // the methods and their order are dnnl::threadpool_interop::threadpool_iface's
  virtual int get_num_threads() const = 0;
  virtual bool get_in_parallel() const = 0;
  virtual void parallel_for(int n, const std::function<void(int, int)> &work) = 0;
  virtual uint64_t get_flags() const = 0;
  virtual ~ThreadPool() = default;
};

struct OneThread : ThreadPool {
  int get_num_threads() const override { return 1; }
  bool get_in_parallel() const override { return false; }
  void parallel_for(int n, const std::function<void(int, int)> &work) override {
    for (int i = 0; i < n; ++i) work(i, n);
  }
  uint64_t get_flags() const override { return 0; }
};

}  // namespace

extern "C" void *one_thread_pool() {
  static OneThread pool;
  return static_cast<ThreadPool *>(&pool);
}

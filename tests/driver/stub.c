/* A stub of NVIDIA's driver, to test the calls to it. Its only GPU uses the host's memory and runs no kernels. A stream does
 * its work only when the host waits for it, as late as the rules allow. A call that breaks a rule ends the process. */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2 };
enum { MULTIPROCESSORS = 16, CACHE = 38, OPT_IN_SHARED = 97, POOLS_SUPPORTED = 115, OWN_SHARED = 1, DYNAMIC_SHARED = 8 };
enum { MOST_SHARED = 227 << 10, RESERVED_SHARED = 1 << 10, SHARED_FOR_ALL = 48 << 10, IMAGE_ALIGNMENT = 64 };
enum { COUNT = 4096, CACHE_BYTES = 1 << 20, MULTIPROCESSOR_COUNT = 30 };

static const size_t TOTAL = 256u << 20;

typedef struct Stream Stream;
typedef struct { Stream *stream; size_t position; } Event;
typedef struct { char *at; size_t bytes; enum { LIVE, FREED, GONE } state; } Memory;
typedef struct { enum { COPY, WAIT, FREE } kind; char *to; const char *from; size_t bytes; Event event; Memory *memory; } Task;
struct Stream { Task tasks[COUNT]; size_t count, done; };
typedef struct { char name[64]; int allowed; } Function;

static _Thread_local int bound;
static Memory memories[COUNT], pinned[COUNT];
static Stream streams[4];
static Function functions[COUNT];
static size_t memory_count, pinned_count, stream_count, function_count;

static void must(int holds, const char *rule) {
    if (!holds) {
        fprintf(stderr, "stub driver: %s\n", rule);
        abort();
    }
}

static Memory *containing(Memory *table, size_t count, const char *at, size_t bytes) {
    for (size_t i = 0; i < count; i++)
        if (table[i].state == LIVE && at >= table[i].at && at + bytes <= table[i].at + table[i].bytes)
            return &table[i];
    return NULL;
}

static void put(Stream *stream, Task task) {
    must(bound, "a call without a context");
    must(stream->count < COUNT, "too many tasks for a test");
    stream->tasks[stream->count++] = task;
}

static void run(Stream *stream, size_t position) {
    while (stream && stream->done < position) {
        Task task = stream->tasks[stream->done++];
        switch (task.kind) {
        case COPY: memcpy(task.to, task.from, task.bytes); break;
        case WAIT: run(task.event.stream, task.event.position); break;
        case FREE:
            task.memory->state = FREED;
            memset(task.memory->at, 0xDD, task.memory->bytes);
        }
    }
}

static size_t reserved(void) {
    size_t sum = 0;
    for (size_t i = 0; i < memory_count; i++)
        sum += memories[i].state == GONE ? 0 : memories[i].bytes;
    return sum;
}

int cuInit(unsigned flags) { (void)flags; return SUCCESS; }
int cuDriverGetVersion(int *version) { *version = 99990; return SUCCESS; }
int cuDeviceGet(int *device, int ordinal) { *device = ordinal; return SUCCESS; }
int cuDeviceGetName(char *name, int len, int device) { (void)device; snprintf(name, (size_t)len, "stub"); return SUCCESS; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
    (void)device;
    *value = attribute == OPT_IN_SHARED     ? MOST_SHARED
             : attribute == CACHE           ? CACHE_BYTES
             : attribute == MULTIPROCESSORS ? MULTIPROCESSOR_COUNT
                                            : attribute == POOLS_SUPPORTED;
    return SUCCESS;
}
int cuDevicePrimaryCtxRetain(void **context, int device) { (void)device; *context = memories; return SUCCESS; }
int cuDevicePrimaryCtxRelease_v2(int device) { (void)device; return SUCCESS; }
int cuCtxGetCurrent(void **context) { *context = bound ? memories : NULL; return SUCCESS; }
int cuCtxSetCurrent(void *context) { bound = context != NULL; return SUCCESS; }

int cuStreamCreate(Stream **stream, unsigned flags) {
    (void)flags;
    *stream = &streams[stream_count++];
    return SUCCESS;
}
int cuStreamDestroy_v2(Stream *stream) { run(stream, stream->count); return SUCCESS; }
int cuStreamSynchronize(Stream *stream) { must(bound, "a call without a context"); run(stream, stream->count); return SUCCESS; }
int cuStreamWaitEvent(Stream *stream, Event *event, unsigned flags) {
    (void)flags;
    put(stream, (Task){ .kind = WAIT, .event = *event });
    return SUCCESS;
}
int cuEventCreate(Event **event, unsigned flags) { (void)flags; *event = calloc(1, sizeof **event); return SUCCESS; }
int cuEventDestroy_v2(Event *event) { free(event); return SUCCESS; }
int cuEventRecord(Event *event, Stream *stream) {
    must(bound, "a call without a context");
    *event = (Event){ stream, stream->count };
    return SUCCESS;
}
int cuEventSynchronize(Event *event) { must(bound, "a call without a context"); run(event->stream, event->position); return SUCCESS; }

int cuDeviceGetDefaultMemPool(void **pool, int device) { (void)device; *pool = memories; return SUCCESS; }
int cuMemPoolSetAttribute(void *pool, int attribute, void *value) { (void)pool; (void)attribute; (void)value; return SUCCESS; }
int cuMemPoolTrimTo(void *pool, size_t kept) {
    must(bound && pool == memories && kept == 0, "the pool is trimmed wrongly");
    for (size_t i = 0; i < memory_count; i++)
        if (memories[i].state == FREED) {
            free(memories[i].at);
            memories[i] = (Memory){ .state = GONE };
        }
    return SUCCESS;
}
int cuMemGetInfo_v2(size_t *left, size_t *total) { *left = TOTAL - reserved(); *total = TOTAL; return SUCCESS; }
int cuMemAllocAsync(uint64_t *address, size_t bytes, Stream *stream) {
    (void)stream;
    must(bound, "a call without a context");
    if (reserved() + bytes > TOTAL)
        return OUT_OF_MEMORY;
    must(memory_count < COUNT, "too much memory for a test");
    memories[memory_count] = (Memory){ calloc(bytes, 1), bytes, LIVE };
    *address = (uint64_t)memories[memory_count++].at;
    return SUCCESS;
}
int cuMemFreeAsync(uint64_t address, Stream *stream) {
    Memory *memory = containing(memories, memory_count, (char *)address, 1);
    must(memory != NULL, "a call frees memory that is not allocated");
    put(stream, (Task){ .kind = FREE, .memory = memory });
    return SUCCESS;
}
int cuMemHostAlloc(void **at, size_t bytes, unsigned flags) {
    must(bound && flags == 0 && pinned_count < COUNT, "pinned memory is asked for wrongly");
    pinned[pinned_count] = (Memory){ calloc(bytes, 1), bytes, LIVE };
    *at = pinned[pinned_count++].at;
    return SUCCESS;
}
int cuMemFreeHost(char *at) {
    must(bound, "a call without a context");
    Memory *memory = containing(pinned, pinned_count, at, 1);
    must(memory != NULL, "a call frees pinned memory that is not allocated");
    for (size_t i = 0; i < stream_count; i++)
        for (size_t j = streams[i].done; j < streams[i].count; j++) {
            Task *task = &streams[i].tasks[j];
            must(task->kind != COPY || task->from < at || task->from >= at + memory->bytes, "pinned memory is freed before a copy");
        }
    free(at);
    memory->state = GONE;
    return SUCCESS;
}
int cuMemcpyHtoDAsync_v2(uint64_t to, const char *from, size_t bytes, Stream *stream) {
    must(containing(memories, memory_count, (char *)to, bytes) != NULL, "a copy to memory that is not allocated");
    must(containing(pinned, pinned_count, from, bytes) != NULL, "a copy out of memory that is not pinned");
    put(stream, (Task){ .kind = COPY, .to = (char *)to, .from = from, .bytes = bytes });
    return SUCCESS;
}
int cuMemcpyDtoHAsync_v2(char *to, uint64_t from, size_t bytes, Stream *stream) {
    must(containing(memories, memory_count, (char *)from, bytes) != NULL, "a copy from memory that is not allocated");
    put(stream, (Task){ .kind = COPY, .to = to, .from = (char *)from, .bytes = bytes });
    return SUCCESS;
}

int cuMemsetD8Async(uint64_t to, unsigned char value, size_t bytes, Stream *stream) {
    (void)value, (void)stream;
    must(bound && containing(memories, memory_count, (char *)to, bytes) != NULL, "a call sets memory that is not allocated");
    printf("stub: %zu bytes are set\n", bytes);
    return SUCCESS;
}

int cuModuleLoadData(void **module, const void *image) {
    must(bound && (uintptr_t)image % IMAGE_ALIGNMENT == 0, "an image is not aligned");
    *module = memories;
    return SUCCESS;
}
int cuModuleGetFunction(Function **function, void *module, const char *name) {
    (void)module;
    must(function_count < COUNT, "too many functions for a test");
    *function = &functions[function_count++];
    snprintf((*function)->name, sizeof (*function)->name, "%s", name);
    (*function)->allowed = SHARED_FOR_ALL - RESERVED_SHARED;
    return SUCCESS;
}
int cuFuncGetAttribute(int *value, int attribute, Function *function) {
    (void)function;
    must(attribute == OWN_SHARED, "an unknown attribute");
    *value = RESERVED_SHARED;
    return SUCCESS;
}
int cuFuncSetAttribute(Function *function, int attribute, int value) {
    must(bound && attribute == DYNAMIC_SHARED, "an unknown attribute");
    if (value + RESERVED_SHARED > MOST_SHARED)
        return INVALID_VALUE;
    function->allowed = value;
    printf("stub: %s may ask for %d bytes\n", function->name, value);
    fflush(stdout);
    return SUCCESS;
}
int cuLaunchKernel(Function *function, unsigned x, unsigned y, unsigned z, unsigned threads, unsigned threads_y, unsigned threads_z,
                   unsigned shared, Stream *stream, void **params, void **extra) {
    (void)x, (void)y, (void)z, (void)threads, (void)threads_y, (void)threads_z, (void)stream, (void)params, (void)extra;
    must(bound, "a call without a context");
    return (int)shared > function->allowed ? INVALID_VALUE : SUCCESS;
}

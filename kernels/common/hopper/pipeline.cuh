// A ring of stages in shared memory: one thread fills them by copies, warpgroups read them by products.
//
// Each stage has two barriers. `full` ends a phase when the copies of a round have arrived; `empty` ends one when all
// readers have released the stage. So the filling thread waits for the end of the phase *before* the first on `empty`,
// which ends at once, and the readers for the first on `full`.
#pragma once

#include "warpgroup.cuh"
#include "wgmma.cuh"

template <int STAGES> struct Ring {
    CopyBarrier full[STAGES], empty[STAGES];

    // Prepares the barriers. One thread calls this, then publish_barriers.
    __device__ __forceinline__ void init(unsigned readers) {
        for (int stage = 0; stage < STAGES; stage++) {
            init_barrier(full + stage, 1);
            init_barrier(empty + stage, readers);
        }
    }
};

// The place of a step in a ring: its stage, and the parity of the round.
template <int STAGES> struct RingStep {
    int stage = 0;
    unsigned parity = 0;

    // The stage of the step before.
    __device__ __forceinline__ int before() const { return stage == 0 ? STAGES - 1 : stage - 1; }

    __device__ __forceinline__ void next() {
        stage++;
        if (stage == STAGES) {
            stage = 0;
            parity ^= 1;
        }
    }

    __device__ __forceinline__ void skip(int steps) {
        stage += steps;
        parity ^= static_cast<unsigned>(stage / STAGES) & 1;
        stage %= STAGES;
    }
};

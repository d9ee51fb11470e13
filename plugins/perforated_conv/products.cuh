// The two ways to multiply the tiles of a stage: by tensor cores, or by the cores' own
// multiply-add, which keeps all bits of a float.
#pragma once

#include "common/vector_access.hpp"

namespace pagdeploy {

// kRows_ list rows times kColumns_ output channels, by kWarpsDown x kWarpsAcross warps, with
// kStages buffers of 128 bytes of depth each. kBlocksPerProcessor bounds the registers.
template <typename Element_, int kRows_, int kColumns_, int kWarpsDown, int kWarpsAcross,
          int kStages_, int kBlocksPerProcessor_>
struct TensorCoreTile {
    using Element = Element_;
    static constexpr int kRows = kRows_;
    static constexpr int kColumns = kColumns_;
    static constexpr int kStages = kStages_;
    static constexpr int kBlocksPerProcessor = kBlocksPerProcessor_;
    static constexpr int kThreads = kWarpsDown * kWarpsAcross * 32;
    static constexpr int kBlocksDown = kRows / kWarpsDown / 16;
    static constexpr int kBlocksAcross = kColumns / kWarpsAcross / 16;
    static_assert(kBlocksDown * kWarpsDown * 16 == kRows, "warp tiles of 16 rows");
    static_assert(kBlocksAcross * kWarpsAcross * 16 == kColumns, "warp tiles of 16 columns");

    float sums[kBlocksDown][kBlocksAcross * 2][4];

    PAG_DEVICE void clear() {
        PAG_UNROLL
        for (int i = 0; i < kBlocksDown; ++i) {
            PAG_UNROLL
            for (int j = 0; j < kBlocksAcross * 2; ++j) {
                PAG_UNROLL
                for (int q = 0; q < 4; ++q) {
                    sums[i][j][q] = 0.0f;
                }
            }
        }
    }

    // Operands of the next 32 bytes of depth are loaded while the current ones are multiplied.
    PAG_DEVICE void multiply(const unsigned char* left, const unsigned char* right) {
        std::uint32_t a[2][kBlocksDown][4];
        std::uint32_t b[2][kBlocksAcross][4];
        loadOperands(a[0], b[0], left, right, 0);
        PAG_UNROLL
        for (int step = 0; step < 4; ++step) {
            if (step < 3) {
                loadOperands(a[(step + 1) & 1], b[(step + 1) & 1], left, right, step + 1);
            }
            PAG_UNROLL
            for (int i = 0; i < kBlocksDown; ++i) {
                PAG_UNROLL
                for (int j = 0; j < kBlocksAcross; ++j) {
                    const std::uint32_t(&columns)[4] = b[step & 1][j];
                    multiplyAccumulate<Element>(sums[i][2 * j], a[step & 1][i], columns[0],
                                                columns[1]);
                    multiplyAccumulate<Element>(sums[i][2 * j + 1], a[step & 1][i], columns[2],
                                                columns[3]);
                }
            }
        }
    }

    // Hands every sum to visit(row, column, sum, sum of the next column).
    template <typename Visitor>
    PAG_DEVICE void forEachPair(Visitor&& visit) const {
        const int lane = int(threadIdx.x) & 31;
        PAG_UNROLL
        for (int i = 0; i < kBlocksDown; ++i) {
            PAG_UNROLL
            for (int j = 0; j < kBlocksAcross * 2; ++j) {
                PAG_UNROLL
                for (int half = 0; half < 2; ++half) {
                    visit(warpRow() + i * 16 + accumulatorRow(lane, 2 * half),
                          warpColumn() + j * 8 + accumulatorColumn(lane, 0),
                          sums[i][j][2 * half], sums[i][j][2 * half + 1]);
                }
            }
        }
    }

private:
    PAG_DEVICE static int warpRow() {
        return int(threadIdx.x) / 32 / kWarpsAcross * (kBlocksDown * 16);
    }
    PAG_DEVICE static int warpColumn() {
        return int(threadIdx.x) / 32 % kWarpsAcross * (kBlocksAcross * 16);
    }

    PAG_DEVICE static void loadOperands(std::uint32_t (&a)[kBlocksDown][4],
                                        std::uint32_t (&b)[kBlocksAcross][4],
                                        const unsigned char* left, const unsigned char* right,
                                        int step) {
        const int lane = int(threadIdx.x) & 31;
        const TilePlace leftPlace = leftOperandPlace(lane);
        const TilePlace rightPlace = rightOperandPlace(lane);
        PAG_UNROLL
        for (int i = 0; i < kBlocksDown; ++i) {
            loadMatrices(a[i], left + swizzledOffset(warpRow() + i * 16 + leftPlace.row,
                                                     step * 2 + leftPlace.chunk));
        }
        PAG_UNROLL
        for (int j = 0; j < kBlocksAcross; ++j) {
            loadMatrices(b[j], right + swizzledOffset(warpColumn() + j * 16 + rightPlace.row,
                                                      step * 2 + rightPlace.chunk));
        }
    }
};

// Exact float products. Each thread owns rows and columns that are kThreadRows and kThreadColumns
// apart, so that neighbouring threads read neighbouring rows of the tile and no banks collide.
template <int kRows_, int kColumns_, int kThreadRows, int kThreadColumns, int kStages_,
          int kBlocksPerProcessor_>
struct ExactFloatTile {
    using Element = float;
    static constexpr int kRows = kRows_;
    static constexpr int kColumns = kColumns_;
    static constexpr int kStages = kStages_;
    static constexpr int kBlocksPerProcessor = kBlocksPerProcessor_;
    static constexpr int kThreads = kThreadRows * kThreadColumns;
    static constexpr int kOwnRows = kRows / kThreadRows;
    static constexpr int kOwnColumns = kColumns / kThreadColumns;
    static_assert(kOwnColumns % 2 == 0, "sums are handed on in pairs");

    float sums[kOwnRows][kOwnColumns];

    PAG_DEVICE void clear() {
        PAG_UNROLL
        for (int i = 0; i < kOwnRows; ++i) {
            PAG_UNROLL
            for (int j = 0; j < kOwnColumns; ++j) {
                sums[i][j] = 0.0f;
            }
        }
    }

    PAG_DEVICE void multiply(const unsigned char* left, const unsigned char* right) {
        PAG_UNROLL
        for (int chunk = 0; chunk < kChunksPerRow; ++chunk) {
            float b[kOwnColumns][4];
            PAG_UNROLL
            for (int j = 0; j < kOwnColumns; ++j) {
                loadFour(b[j], right + swizzledOffset(column(j), chunk));
            }
            PAG_UNROLL
            for (int i = 0; i < kOwnRows; ++i) {
                float a[4];
                loadFour(a, left + swizzledOffset(row(i), chunk));
                PAG_UNROLL
                for (int j = 0; j < kOwnColumns; ++j) {
                    PAG_UNROLL
                    for (int k = 0; k < 4; ++k) {
                        sums[i][j] += a[k] * b[j][k];
                    }
                }
            }
        }
    }

    template <typename Visitor>
    PAG_DEVICE void forEachPair(Visitor&& visit) const {
        PAG_UNROLL
        for (int i = 0; i < kOwnRows; ++i) {
            PAG_UNROLL
            for (int j = 0; j < kOwnColumns; j += 2) {
                visit(row(i), column(j), sums[i][j], sums[i][j + 1]);
            }
        }
    }

private:
    PAG_DEVICE static int row(int i) {
        return int(threadIdx.x) / kThreadColumns + i * kThreadRows;
    }
    // Pairs of neighbouring columns, so that sums leave two at a time.
    PAG_DEVICE static int column(int j) {
        return (int(threadIdx.x) % kThreadColumns + j / 2 * kThreadColumns) * 2 + (j & 1);
    }
    PAG_DEVICE static void loadFour(float (&values)[4], const unsigned char* source) {
        const Chunk chunk = loadVector<Chunk>(source);
        memcpy(values, &chunk, sizeof chunk);
    }
};

}  // namespace pagdeploy

/**
 * How glibc's malloc serves a process that holds gigabytes outside of V8's heap; read by glibc as
 * the process starts, so whoever starts one sets them: a local run here, the image in its
 * Dockerfile. Of 1.5 GiB that malloc held for a TaskManager of 2 GiB (bench, setting c), 550 MiB
 * were in no use, and the process was larger than a pod's limit would have let it be.
 *
 * - Threshold: by default the size from which a block gets pages of its own grows with the blocks
 *   that were freed, up to 32 MiB. Then slabs and memtables, 1 MiB each, lie among small blocks,
 *   and what is freed between those never goes back.
 * - Arenas: by default 8 per core. A slot's blocks are freed by threads of RocksDB, V8 and libuv as
 *   well, and each arena keeps what one of them has left free.
 * - Huge pages for blocks from 2 MiB on, where the kernel gives them to who asks (`madvise`, the
 *   default of most distributions): users lie all over memory, and on a virtual machine each look
 *   into the page tables is one into the host's, too. 3 to 5 % of the CPU per event.
 */
export const MALLOC_SETTINGS = {
  MALLOC_MMAP_THRESHOLD_: '262144',
  MALLOC_ARENA_MAX: '4',
  GLIBC_TUNABLES: 'glibc.malloc.hugetlb=1',
};

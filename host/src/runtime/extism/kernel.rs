//! The memory that an Extism module and its host share: blocks with addresses, one input, one output, one error.
//!
//! Extism keeps it in a module of its own, which it calls the kernel. Here it is on the host's side and each block stands
//! alone, so that an address leads into one block or nowhere. All of it counts as memory of the instance.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::runtime::limit::MemoryLimiter;

/// What a block costs the host beside its bytes.
const BLOCK_BYTES: usize = 64;
/// No block begins before this address; 0 stands for nothing.
const FIRST: u64 = 1 << 12;
/// Between two blocks, so that reading past the end of one leads nowhere.
const GAP: u64 = 16;

/// Most bytes of an error that are passed on.
const ERROR_BYTES_MAX: usize = 8 << 10;

/// Why a module cannot go on. It stops with a trap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum KernelError {
    #[error("there is no memory left for {0} bytes")]
    OutOfMemory(u64),
    #[error("there is no block at the address {0}")]
    InvalidHandle(u64),
}

/// The blocks of one instance.
#[derive(Default)]
pub(super) struct Kernel {
    input: Bytes,
    /// Where the input is too, once the module has asked for its address.
    input_address: u64,
    blocks: BTreeMap<u64, Box<[u8]>>,
    /// One address is never given out twice: what was freed stays nowhere.
    next: u64,
    output: Output,
    error: u64,
}

#[derive(Default)]
enum Output {
    #[default]
    None,
    At {
        address: u64,
        length: u64,
    },
    /// Its block was freed after it had become the output.
    Kept(Bytes),
}

impl Kernel {
    pub(super) fn set_input(&mut self, input: Bytes) {
        self.input = input;
    }

    pub(super) fn input(&self) -> &[u8] {
        &self.input
    }

    /// The input as a block.
    pub(super) fn input_address(&mut self, memory: &mut MemoryLimiter) -> Result<u64, KernelError> {
        if self.input_address == 0 {
            let input = self.input.clone();
            self.input_address = self.put(&input, memory)?;
        }
        Ok(self.input_address)
    }

    /// A new block of zeros; no bytes, no block.
    pub(super) fn alloc(
        &mut self,
        length: u64,
        memory: &mut MemoryLimiter,
    ) -> Result<u64, KernelError> {
        let Ok(bytes) = usize::try_from(length) else {
            return Err(KernelError::OutOfMemory(length));
        };
        if bytes == 0 {
            return Ok(0);
        }
        if !memory.take(cost(bytes)) {
            return Err(KernelError::OutOfMemory(length));
        }
        let address = self.next.max(FIRST);
        self.next = address
            .checked_add(length + GAP)
            .map(|next| next & !(GAP - 1))
            .ok_or(KernelError::OutOfMemory(length))?;
        self.blocks
            .insert(address, vec![0; bytes].into_boxed_slice());
        Ok(address)
    }

    /// A new block with these bytes.
    pub(super) fn put(
        &mut self,
        bytes: &[u8],
        memory: &mut MemoryLimiter,
    ) -> Result<u64, KernelError> {
        let address = self.alloc(bytes.len() as u64, memory)?;
        if let Some(block) = self.blocks.get_mut(&address) {
            block.copy_from_slice(bytes);
        }
        Ok(address)
    }

    /// Frees a block; anything else is left alone.
    pub(super) fn free(&mut self, address: u64, memory: &mut MemoryLimiter) {
        // What is the output stays it, although nobody else can read it any more.
        if let Output::At { address: at, .. } = self.output
            && self.block_of(at).is_some_and(|(start, _)| start == address)
        {
            let kept = self.take_output();
            self.output = Output::Kept(kept);
            return;
        }
        let is_freed = address != 0 && self.take(address, memory).is_ok();
        if is_freed && address == self.input_address {
            self.input = Bytes::new();
        }
    }

    /// A block that its owner gives away; nothing for the address 0.
    pub(super) fn take(
        &mut self,
        address: u64,
        memory: &mut MemoryLimiter,
    ) -> Result<Box<[u8]>, KernelError> {
        if address == 0 {
            return Ok(Box::default());
        }
        let block = self.blocks.remove(&address);
        let block = block.ok_or(KernelError::InvalidHandle(address))?;
        memory.give_back(cost(block.len()));
        Ok(block)
    }

    /// Of the block that begins at this address, or 0.
    pub(super) fn length(&self, address: u64) -> u64 {
        self.blocks
            .get(&address)
            .map_or(0, |block| block.len() as u64)
    }

    /// Bytes inside of one block.
    pub(super) fn load<const N: usize>(&self, address: u64) -> Option<[u8; N]> {
        let (start, block) = self.block_of(address)?;
        let at = usize::try_from(address - start).ok()?;
        block.get(at..)?.first_chunk().copied()
    }

    /// Bytes of the input.
    pub(super) fn load_input<const N: usize>(&self, offset: u64) -> Option<[u8; N]> {
        let at = usize::try_from(offset).ok()?;
        self.input.get(at..)?.first_chunk().copied()
    }

    /// Writes inside of one block; elsewhere nothing happens, as in Extism.
    pub(super) fn store<const N: usize>(&mut self, address: u64, bytes: [u8; N]) {
        let block = self.blocks.range_mut(..=address).next_back();
        if let Some((start, block)) = block
            && let Ok(at) = usize::try_from(address - start)
            && let Some(place) = block.get_mut(at..).and_then(<[u8]>::first_chunk_mut)
        {
            *place = bytes;
        }
    }

    /// Makes bytes inside of one block the output; elsewhere nothing happens, as in Extism.
    pub(super) fn set_output(&mut self, address: u64, length: u64) {
        if self.range(address, length).is_some() {
            self.output = Output::At { address, length };
        }
    }

    /// The output, which is no block any more after this.
    pub(super) fn take_output(&mut self) -> Bytes {
        match std::mem::take(&mut self.output) {
            Output::None => Bytes::new(),
            Output::Kept(bytes) => bytes,
            Output::At { address, length } => {
                let Some((start, from, to)) = self.range(address, length) else {
                    return Bytes::new();
                };
                let block = self.blocks.remove(&start).unwrap_or_default();
                Bytes::from(block).slice(from..to)
            }
        }
    }

    pub(super) fn set_error(&mut self, address: u64) {
        self.error = address;
    }

    pub(super) fn error_address(&self) -> u64 {
        self.error
    }

    /// What the module says went wrong; of a long text the beginning.
    pub(super) fn error(&self) -> Option<String> {
        let error = self.blocks.get(&self.error)?;
        let error = &error[..error.len().min(ERROR_BYTES_MAX)];
        Some(String::from_utf8_lossy(error).into_owned())
    }

    fn block_of(&self, address: u64) -> Option<(u64, &[u8])> {
        let (start, block) = self.blocks.range(..=address).next_back()?;
        Some((*start, block))
    }

    /// The block that holds these bytes, and where they are in it.
    fn range(&self, address: u64, length: u64) -> Option<(u64, usize, usize)> {
        let (start, block) = self.block_of(address)?;
        let from = usize::try_from(address - start).ok()?;
        let to = from.checked_add(usize::try_from(length).ok()?)?;
        (to <= block.len()).then_some((start, from, to))
    }
}

fn cost(bytes: usize) -> usize {
    bytes.saturating_add(BLOCK_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter() -> MemoryLimiter {
        MemoryLimiter::new(10_000)
    }

    #[test]
    fn what_is_stored_is_loaded_and_only_inside_of_its_block() {
        let (mut kernel, mut memory) = (Kernel::default(), limiter());
        let one = kernel.alloc(9, &mut memory).unwrap();
        let two = kernel.alloc(8, &mut memory).unwrap();
        kernel.store(one, 7u64.to_le_bytes());
        kernel.store(one + 8, [9]);
        kernel.store(two, u64::MAX.to_le_bytes());
        assert_eq!(kernel.load(one), Some(7u64.to_le_bytes()));
        assert_eq!(kernel.load(one + 8), Some([9]));
        assert_eq!(kernel.load::<8>(one + 2), None, "past the end");
        kernel.store(one + 2, [0xff; 8]);
        assert_eq!(kernel.load(one), Some(7u64.to_le_bytes()));
        for nowhere in [0, 1, one - 1, one + 9, two + 8, u64::MAX] {
            assert_eq!(kernel.load::<1>(nowhere), None, "{nowhere}");
            kernel.store(nowhere, [1]);
            assert_eq!(kernel.length(nowhere), 0, "{nowhere}");
        }
        assert_eq!((kernel.length(one), kernel.length(one + 1)), (9, 0));
    }

    #[test]
    fn blocks_count_as_memory_until_they_are_freed() {
        let (mut kernel, mut memory) = (Kernel::default(), limiter());
        for _ in 0..1000 {
            let block = kernel.alloc(5000, &mut memory).unwrap();
            kernel.free(block, &mut memory);
            assert_eq!(kernel.load::<1>(block), None, "it was freed");
        }
        for many in [10_000, u64::MAX] {
            let refused = kernel.alloc(many, &mut memory);
            assert_eq!(refused, Err(KernelError::OutOfMemory(many)));
        }
        assert!(memory.has_refused());
        let empty = (0..1000).take_while(|_| kernel.alloc(1, &mut memory).is_ok());
        assert_eq!(
            empty.count(),
            10_000 / 65,
            "small blocks cost more than they hold"
        );
    }

    #[test]
    fn the_output_survives_its_block() {
        let (mut kernel, mut memory) = (Kernel::default(), limiter());
        let block = kernel.put(b"hello world", &mut memory).unwrap();
        kernel.set_output(block + 6, 5);
        kernel.set_output(block + 6, 6);
        kernel.set_output(u64::MAX, u64::MAX);
        kernel.free(block, &mut memory);
        assert_eq!(kernel.length(block), 0);
        assert_eq!(kernel.take_output(), "world", "the last range that exists");
        assert_eq!(kernel.take_output(), "");
    }

    #[test]
    fn the_input_is_gone_only_when_its_own_block_is_freed() {
        let (mut kernel, mut memory) = (Kernel::default(), limiter());
        kernel.set_input(Bytes::from_static(b"input"));
        for nowhere in [0, 1, FIRST, u64::MAX] {
            kernel.free(nowhere, &mut memory);
        }
        let address = kernel.input_address(&mut memory).unwrap();
        assert_eq!(kernel.input_address(&mut memory).unwrap(), address);
        assert_eq!(kernel.load_input(1), Some(*b"nput"));
        assert_eq!(kernel.load(address + 1), Some(*b"nput"));
        kernel.free(address, &mut memory);
        assert_eq!(kernel.input(), b"");
    }

    #[test]
    fn a_handle_is_given_away_once() {
        let (mut kernel, mut memory) = (Kernel::default(), limiter());
        let block = kernel.put(b"key", &mut memory).unwrap();
        assert_eq!(&*kernel.take(block, &mut memory).unwrap(), b"key");
        let again = kernel.take(block, &mut memory);
        assert_eq!(again, Err(KernelError::InvalidHandle(block)));
        assert_eq!(&*kernel.take(0, &mut memory).unwrap(), b"");
    }

    #[test]
    fn an_error_is_gone_when_it_is_freed() {
        let (mut kernel, mut memory) = (Kernel::default(), limiter());
        let block = kernel.put(b"no such order", &mut memory).unwrap();
        kernel.set_error(block);
        assert_eq!(kernel.error().as_deref(), Some("no such order"));
        kernel.free(block, &mut memory);
        assert_eq!(kernel.error(), None);
        let long = kernel.alloc(9000, &mut memory).unwrap();
        kernel.set_error(long);
        assert_eq!(kernel.error().unwrap().len(), ERROR_BYTES_MAX);
    }
}

//! Numbers that look random and are the same each time, so that what was found once is found again. With another number in
//! `FUZZ_SEED` they are others.

/// A source of such numbers.
pub(crate) struct Random(u64);

impl Random {
    /// Other numbers for each seed, which is printed.
    pub(crate) fn new(seed: u64) -> Self {
        let more = std::env::var("FUZZ_SEED").unwrap_or_default();
        let more: u64 = more.parse().unwrap_or_default();
        eprintln!("the seed is {seed}, FUZZ_SEED is {more}");
        let seed = seed.wrapping_add(more.wrapping_mul(1000));
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// From 0 to one less than `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        u32::try_from((self.0 >> 20) % u64::from(end.max(1))).expect("it is below")
    }

    /// Whether it is the one of so many cases.
    pub(crate) fn is_one_of(&mut self, cases: u32) -> bool {
        self.below(cases) == 0
    }

    /// A place in something that is so long.
    pub(crate) fn place(&mut self, length: usize) -> usize {
        self.below(u32::try_from(length).expect("it is short")) as usize
    }

    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.place(of.len())]
    }

    pub(crate) fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("it is below")
    }

    pub(crate) fn bytes(&mut self, length_max: u32) -> Vec<u8> {
        (0..self.below(length_max + 1))
            .map(|_| self.byte())
            .collect()
    }
}

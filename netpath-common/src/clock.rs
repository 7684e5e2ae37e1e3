//! Times in seconds of the coarse monotonic clock, as rows of maps have them.

/// Seconds from `then` to `now`; 0 where `then` is later.
///
/// It may be, by one: another processor has read the clock after this one and written first, or somebody has read the
/// precise clock, which the coarse one follows a tick behind. Taken for a time long past it would end what has just begun.
#[inline(always)]
pub const fn since(now: u32, then: u32) -> u32 {
    let elapsed = now.wrapping_sub(then);
    if elapsed as i32 >= 0 { elapsed } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_ahead_of_the_clock_is_now_and_one_before_its_beginning_is_long_past() {
        assert_eq!(since(100, 40), 60);
        assert_eq!(since(100, 101), 0);
        assert_eq!(since(10, 10u32.wrapping_sub(400)), 400);
    }
}

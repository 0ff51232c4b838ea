//! Generic opcodes of the BEAM: how many operands each has, and the numbers of those that mean something here.
//!
//! As in `genop.tab` of Erlang/OTP, which only ever appends: a number keeps its meaning for good. Opcodes of releases
//! after this table end the reading of a module with an error, since without their arity nothing behind them can
//! be read.

/// Operands of opcodes 1, 2, …
const ARITIES: &[u8] = &[
    // 1: label, func_info, int_code_end, call, call_last, call_only, call_ext, call_ext_last
    1, 3, 0, 2, 3, 2, 2, 3, //
    // 9: bif0, bif1, bif2, allocate, allocate_heap, allocate_zero, allocate_heap_zero, test_heap
    2, 4, 5, 2, 3, 2, 3, 2, //
    // 17: init, deallocate, return, send, remove_message, timeout, loop_rec, loop_rec_end
    1, 1, 0, 0, 0, 0, 2, 1, //
    // 25: wait, wait_timeout, arithmetic of old
    1, 2, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 4, 3, //
    // 39: comparisons
    3, 3, 3, 3, 3, 3, //
    // 45: type tests
    2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, //
    // 58: test_arity, select_val, select_tuple_arity, jump, catch, catch_end, move
    3, 3, 3, 1, 2, 1, 2, //
    // 65: get_list, get_tuple_element, set_tuple_element, put_string, put_list, put_tuple, put
    3, 3, 3, 3, 3, 2, 1, //
    // 72: badmatch, if_end, case_end, call_fun, make_fun, is_function, call_ext_only
    1, 0, 1, 1, 3, 2, 2, //
    // 79: bit syntax of old
    2, 5, 5, 5, 4, 2, 1, 1, 2, 2, 5, 5, 5, 2, 1, //
    // 94: floats
    0, 1, 2, 2, 4, 4, 4, 4, 3, //
    // 103: make_fun2, try, try_end, try_case, try_case_end, raise
    1, 2, 1, 1, 1, 2, //
    // 109: bs_init2, bs_bits_to_bytes, bs_add, apply, apply_last, is_boolean, is_function2
    6, 3, 5, 1, 2, 2, 3, //
    // 116: bit syntax
    5, 7, 7, 7, 5, 3, 2, 2, //
    // 124: gc_bif1, gc_bif2, bs_final2, bs_bits_to_bytes2, put_literal, is_bitstr
    5, 6, 2, 2, 2, 2, //
    // 130: bit syntax, trim at 136
    1, 3, 4, 0, 8, 6, 2, 6, 5, 4, 5, 4, 5, 4, 3, 3, 3, 3, 3, //
    // 149: on_load, recv_mark, recv_set, gc_bif3, line
    0, 1, 1, 7, 1, //
    // 154: put_map_assoc, put_map_exact, is_map, has_map_fields, get_map_elements, is_tagged_tuple
    5, 5, 2, 3, 3, 4, //
    // 160: build_stacktrace, raw_raise, get_hd, get_tl, put_tuple2
    0, 0, 2, 2, 2, //
    // 165: bs_get_tail, bs_start_match3, bs_get_position, bs_set_position, swap, bs_start_match4
    3, 4, 3, 2, 2, 4, //
    // 171: make_fun3, init_yregs, recv_marker_bind, _clear, _reserve, _use
    3, 1, 2, 1, 1, 1, //
    // 177: bs_create_bin, call_fun2, nif_start, badrecord
    6, 3, 0, 1, //
    // 181, OTP 26 and later: update_record, bs_match, executable_line, debug_line
    5, 3, 2, 4,
];

/// How many operands an opcode has.
pub fn arity(opcode: u8) -> Option<usize> {
    let index = usize::from(opcode).checked_sub(1)?;
    ARITIES.get(index).map(|arity| usize::from(*arity))
}

pub const LABEL: u8 = 1;
pub const FUNC_INFO: u8 = 2;
pub const INT_CODE_END: u8 = 3;
pub const CALL: u8 = 4;
pub const CALL_LAST: u8 = 5;
pub const CALL_ONLY: u8 = 6;
pub const CALL_EXT: u8 = 7;
pub const CALL_EXT_LAST: u8 = 8;
pub const ALLOCATE: u8 = 12;
pub const ALLOCATE_HEAP_ZERO: u8 = 15;
pub const TEST_HEAP: u8 = 16;
pub const DEALLOCATE: u8 = 18;
pub const RETURN: u8 = 19;
pub const SEND: u8 = 20;
pub const REMOVE_MESSAGE: u8 = 21;
pub const TIMEOUT: u8 = 22;
pub const LOOP_REC_END: u8 = 24;
pub const WAIT: u8 = 25;
pub const WAIT_TIMEOUT: u8 = 26;
pub const IS_LT: u8 = 39;
pub const TEST_ARITY: u8 = 58;
pub const SELECT_VAL: u8 = 59;
pub const SELECT_TUPLE_ARITY: u8 = 60;
pub const JUMP: u8 = 61;
pub const CATCH: u8 = 62;
pub const MOVE: u8 = 64;
pub const GET_TUPLE_ELEMENT: u8 = 66;
pub const PUT_LIST: u8 = 69;
pub const BADMATCH: u8 = 72;
pub const IF_END: u8 = 73;
pub const CASE_END: u8 = 74;
pub const CALL_FUN: u8 = 75;
pub const IS_FUNCTION: u8 = 77;
pub const CALL_EXT_ONLY: u8 = 78;
pub const TRY: u8 = 104;
pub const TRY_CASE: u8 = 106;
pub const TRY_CASE_END: u8 = 107;
pub const RAISE: u8 = 108;
pub const APPLY: u8 = 112;
pub const APPLY_LAST: u8 = 113;
pub const IS_BOOLEAN: u8 = 114;
pub const IS_FUNCTION2: u8 = 115;
pub const IS_BITSTR: u8 = 129;
pub const TRIM: u8 = 136;
pub const LINE: u8 = 153;
pub const PUT_MAP_ASSOC: u8 = 154;
pub const PUT_MAP_EXACT: u8 = 155;
pub const IS_MAP: u8 = 156;
pub const HAS_MAP_FIELDS: u8 = 157;
pub const IS_TAGGED_TUPLE: u8 = 159;
pub const RAW_RAISE: u8 = 161;
pub const GET_HD: u8 = 162;
pub const GET_TL: u8 = 163;
pub const PUT_TUPLE2: u8 = 164;
pub const SWAP: u8 = 169;
pub const CALL_FUN2: u8 = 178;
pub const BADRECORD: u8 = 180;
pub const EXECUTABLE_LINE: u8 = 183;
pub const DEBUG_LINE: u8 = 184;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_opcode_at_its_number() {
        let known = [
            (CALL_EXT, 2),
            (WAIT_TIMEOUT, 2),
            (IS_LT, 3),
            (TEST_ARITY, 3),
            (MOVE, 2),
            (PUT_LIST, 3),
            (CALL_EXT_ONLY, 2),
            (TRY, 2),
            (APPLY, 1),
            (IS_BITSTR, 2),
            (TRIM, 2),
            (LINE, 1),
            (PUT_MAP_ASSOC, 5),
            (IS_TAGGED_TUPLE, 4),
            (PUT_TUPLE2, 2),
            (SWAP, 2),
            (CALL_FUN2, 3),
            (BADRECORD, 1),
            (DEBUG_LINE, 4),
        ];
        for (opcode, operands) in known {
            assert_eq!(arity(opcode), Some(operands), "opcode {opcode}");
        }
        assert_eq!((arity(0), arity(185)), (None, None));
    }
}

"""Hand-made faults for tests/test_mutations.py: what a wrong turn in the Verilog would look like."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Fault(NamedTuple):
    """Text `old` of rtl/<file>.v, found exactly once, becomes `new`; `check` is the one that must then fail."""

    reason: str
    check: Literal["requantise", "network", "overlapped", "adding", "windows", "tables"]
    file: str
    old: str
    new: str


# fmt: off
FAULTS = (
    # requantiser
    Fault("rounding offset loses its lowest bit", "requantise", "requant_lane",
          "sum      <= {bounded[35], bounded} + {{2{offset_7[34]}}, offset_7};",
          "sum      <= {bounded[35], bounded} + {{2{offset_7[34]}}, offset_7[34:1], 1'b0};"),
    Fault("a tie below goes down only inside the window, not at its end", "requantise", "requant_lane",
          "| ((fraction_10 == window) & ~ragged_10)", ""),
    Fault("a tie goes to the odd neighbour of an even code", "requantise", "requant_lane",
          "even_8 & sum_fits & sum[24]", "even_8 & sum_fits & ~sum[24]"),
    Fault("the window above ends one step early", "requantise", "requant_lane",
          "(to_one <= {1'b0, window})", "(to_one < {1'b0, window})"),
    Fault("bits lost in the coarse shift are forgotten", "requantise", "requant_lane",
          "ragged_6     <= |(bytes_set & ~(7'h7f << even_shift_5[5:3]));", "ragged_6     <= 1'b0;"),
    Fault("bits lost in the fine shift are forgotten", "requantise", "requant_lane",
          "ragged_6 | (|fine_lost)", "ragged_6"),
    Fault("a large shifted product wraps instead of saturating", "requantise", "requant_lane",
          "fine_fits ? fine : {negative_7, {35{~negative_7}}};", "fine;"),
    Fault("a large sum saturates to the wrong side", "requantise", "requant_lane",
          "{sum[36], {9{~sum[36]}}}", "{~sum[36], {9{sum[36]}}}"),
    Fault("negative values get no offset of their own", "requantise", "requant_lane",
          "value[31] ? offset_wide + offset_negative : offset_wide", "offset_wide"),
    Fault("the exception compares without the sign", "requantise", "requant_lane",
          "{{2{exception_value_1[29]}}, exception_value_1}", "{2'b00, exception_value_1}"),
    Fault("the exception always adds one", "requantise", "requant_lane",
          "{{7{exception_10[1]}}, exception_10}", "{8'd0, |exception_10}"),
    Fault("the bias is left out", "requantise", "requant_lane",
          "acc + $signed(params[`PRM_BIAS])", "acc"),
    Fault("the upper clamp is off by one", "requantise", "requant_lane",
          "shifted > high_wide", "shifted > high_wide + 12'sd1"),
    Fault("a cross product of the wide multiplier is lost", "requantise", "wide_mul",
          "low_high[34:0] + high_low[34:0]", "low_high[34:0]"),
    # datapath
    Fault("padding reads the memory", "network", "operand_window",
          "outside[0] ? {ROWS{pad}} : words;", "words;"),
    Fault("the right edge of the map is one column too far", "network", "address_gen",
          "(x_unsigned >= map_w)", "(x_unsigned > map_w)"),
    Fault("wide weights' second pass is added", "network", "mac_lane",
          "sum_subtract ? scaled - sum : scaled + sum", "scaled + sum"),
    Fault("an add's next digit does not scale the sum up", "adding", "mac_lane",
          "sum_scale_up ? acc <<< 8 : acc", "acc"),
    Fault("an add's digits are to base 128", "adding", "mac_lane",
          "acc <<< 8", "acc <<< 7"),
    Fault("an add's pass is not seen to begin", "adding", "address_gen",
          "starts_pass <= lower_end[3] & ~at_end[3]", "starts_pass <= 1'b0"),
    Fault("max pooling keeps the smaller sum", "network", "mac_lane",
          "(acc > sum) ? acc : sum", "(acc < sum) ? acc : sum"),
    Fault("max pooling adds", "network", "mac_lane",
          "sum_max ? larger : total", "total"),
    Fault("an accumulation does not start afresh", "network", "mac_lane",
          "sum_first ? sum :", "1'b0 ? sum :"),
    Fault("both groups of a word are written", "network", "drain",
          "(write_beat && wanted) ? group :", "(write_beat && wanted) ? {GROUPS{1'b1}} :"),
    Fault("filling channels are written past the pixel", "network", "drain",
          "(write_beat && wanted) ? group", "write_beat ? group"),
    Fault("parameters do not start again at each pixel", "network", "drain",
          "prm_addr <= (pixel_last & ~map_last) ? prm_base : prm_addr + 1'b1;", "prm_addr <= prm_addr + 1'b1;"),
    Fault("codes of a table come a cycle before their address", "tables", "drain",
          ".CYCLES(2), .RESET(1)) delay_mapped", ".CYCLES(1), .RESET(1)) delay_mapped"),
    Fault("what a job without a table wrote comes out again in the next one", "tables", "drain",
          "mapping ? rounded_marks : 5'd0", "rounded_marks"),
    Fault("every table is the first", "tables", "drain",
          "selected <= descriptor[`DSC_TABLE] - 8'd1;", "selected <= 8'd0;"),
    Fault("a table is read by the code without its shift", "tables", "code_table",
          "~codes[8*l+7]", "codes[8*l+7]"),
    Fault("the drain chain runs from the wrong end", "network", "drain",
          ".accs       (chain[32*LANES-1:0])", ".accs       (chain[32*COLS-1 -: 32*LANES])"),
    Fault("rows of the output step like columns", "network", "address_gen",
          "x        <= x_restart ? $signed(loops[`DSC_X0]) : x + x_step;", "x        <= x + x_step;"),
    Fault("the gap between tiles is one cycle longer", "network", "address_gen",
          "gap_left <= loops[`DSC_GAP];", "gap_left <= loops[`DSC_GAP] + 16'd1;"),
    # overlapped input
    Fault("the next frame comes in while the first job still reads its own", "overlapped", "sequencer",
          "in_run & (job >= free_job)", "in_run"),
    Fault("a word that meets the drain at the write port is lost", "overlapped", "intact_core",
          ".write_ready   (~drain_writes)", ".write_ready   (1'b1)"),
    Fault("the drain gives way to the next frame", "overlapped", "intact_core",
          ".write_enable (drain_writes ? drain_enable :",
          ".write_enable ((drain_writes & ~frame_write) ? drain_enable :"),
    Fault("a word that waits for the write port is overwritten", "overlapped", "stream_in",
          "!flush && !held", "!flush"),
    Fault("a run's end forgets the next frame", "overlapped", "sequencer",
          "frame_consume = run_begin | reread", "frame_consume = run_begin | finish | reread"),
    # windows
    Fault("the second word of weights looks for its tap where it was", "windows", "operand_window",
          "WORD*(ROWS + r - 3)", "WORD*(ROWS + r)"),
    Fault("all rows of a column are outside where the first is", "windows", "operand_window",
          "outside[k] ? {ROWS{pad}}", "outside[0] ? {ROWS{pad}}"),
    Fault("the window moves on in every slot", "windows", "operand_window",
          "if (shift) window <=", "window <="),
    Fault("the first row below the map is inside", "windows", "window_gen",
          "(y_2 >= map_h)", "(y_2 > map_h)"),
    Fault("the first column right of the map is inside", "windows", "window_gen",
          "(x >= map_w)", "(x > map_w)"),
    Fault("every tile has the first one's weights", "windows", "window_gen",
          "down_2  <= second_1 & ~previous[1];", "down_2  <= second_1;"),
    Fault("an add's second word is not scaled", "windows", "window_gen",
          "second_1 & loops[`WIN_SECOND_SCALES_UP]", "1'b0"),
    Fault("another tile starts below the map", "windows", "window_gen",
          "if (step_3[2]) y <= loops[`DSC_Y0];", ""),
    Fault("a row's first pixel reads as many columns as others", "windows", "window_gen",
          "row_ends ? loops[`WIN_ROW_COLUMNS] : loops[`WIN_PIXEL_COLUMNS]", "loops[`WIN_PIXEL_COLUMNS]"),
    Fault("the second port's word comes from the first one's bank", "windows", "activation_memory",
          ".in  (read_addr[ADDR*k +: 2])", ".in  (read_addr[1:0])"),
    Fault("the third port gets the second one's word", "windows", "activation_memory",
          "read_addr[2*ADDR+2 +: ADDR-2]", "read_addr[ADDR+2 +: ADDR-2]"),
    Fault("another tile takes the first one's parameters", "windows", "drain",
          "if (map_last) prm_base <= prm_addr + 1'b1;", ""),
    Fault("another tile's results follow the last row", "windows", "drain",
          "write_map_last ? step_tile : write_row_last", "write_row_last"),
)
# fmt: on

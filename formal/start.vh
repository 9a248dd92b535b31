// Included at the end of a module under proof: the first cycle is a reset. Later resets may come at any time.
reg f_past = 1'b0;
always @(posedge clk) f_past <= 1'b1;
always @* if (!f_past) assume (rst);
reg f_ran = 1'b0;  // there was a cycle before, and it was no reset
always @(posedge clk) f_ran <= !rst;

// A range of positions along one axis: live ones lie in [begin, end), all in [full_begin, full_end) are live.
struct Range { int begin, end, full_begin, full_end; };

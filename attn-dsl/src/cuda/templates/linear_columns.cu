        const bool is_column = column >= 0 && column < @{ columns_len };
        //% if columns == "queries"
        const Query query_column = query_at(column);
        //% if column_factor
        values.column_factor[at] = is_column ? @{ column_factor } : 0.f;
        //% endif
        //% if exponents
        values.column_exponent[at] = is_column ? query_exponent(tile, query_column) : -INFINITY;
        //% endif
        //% if column_bias
        values.column_bias[at] = is_column ? query_bias(tile, query_column) : 0.f;
        //% endif
        //% else
        const Key key_column = key_at(column);
        //% if column_factor
        values.column_factor[at] = is_column ? @{ column_factor } : 0.f;
        //% endif
        //% if exponents
        values.column_exponent[at] = is_column ? key_exponent(tile, key_column) : -INFINITY;
        //% endif
        //% endif

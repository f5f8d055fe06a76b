// Calling a kernel: every argument is copied from bytes to a parameter of its own type, aligned as the type asks.
namespace attn_sim {
template <class T> struct Argument {
    union { T value; };
    __attribute__((no_sanitize("thread"))) Argument(const void* bytes) { __builtin_memcpy(&value, bytes, sizeof(T)); }
    ~Argument() {}
};
template <class T> struct Bare { typedef T type; };
template <class T> struct Bare<const T> { typedef T type; };
template <u32... I> struct Indices {};
template <u32 N, u32... I> struct Count : Count<N - 1, N - 1, I...> {};
template <u32... I> struct Count<0, I...> { typedef Indices<I...> type; };

template <class... A, u32... I>
inline __attribute__((always_inline, no_sanitize("thread"))) void call(void (*kernel)(A...), void** arguments, Indices<I...>) {
    kernel(Argument<typename Bare<A>::type>(arguments[I]).value...);
}
template <class... A>
inline __attribute__((always_inline, no_sanitize("thread"))) void call(void (*kernel)(A...), void** arguments) {
    call(kernel, arguments, typename Count<sizeof...(A)>::type());
}
// Sizes of the parameters, which end with 0.
template <class... A> constexpr const u32* parameters(void (*)(A...)) {
    struct List {
        static const u32* get() {
            static const u32 sizes[] = {sizeof(A)..., 0};
            return sizes;
        }
    };
    return List::get();
}
}  // namespace attn_sim
#define ATTN_SIM_ENTRY(NAME) \
    ATTN_SIM_EXPORT void attn_sim_##NAME(void** arguments) { attn_sim::call(NAME, arguments); } \
    ATTN_SIM_EXPORT const attn_sim::u32* attn_sim_parameters_##NAME() { return attn_sim::parameters(NAME); }

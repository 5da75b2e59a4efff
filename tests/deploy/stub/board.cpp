extern "C" void app_main(void);
// What the build of ESP-IDF embeds.
extern "C" const unsigned char _binary_model_espdl_start[] = {'E', 'D', 'L', '2', 0};
int main()
{
    app_main();
    return 0;
}
